"""The objectives: what is left of each budget, and how fast it burns."""

from typing import Final

from headrace_monitoring.panels import Board, Graph, Note, Query, Row, Unit
from headrace_monitoring.slo import OBJECTIVES, WINDOWS

_MEANINGS: Final = "\n".join(
    f"- `{each.slo}`: {each.meaning}; at least {1 - each.budget:.1%}." for each in OBJECTIVES
)


def _burn(window: str) -> Query:
    return Query(
        f"headrace:slo_errors:ratio_rate{window} / on (slo) headrace:slo_budget:ratio",
        f"{{{{slo}}}} {window}",
    )


BOARD: Final = Board(
    "slo",
    "Objectives",
    "Is what was promised kept, and for how long will it be?",
    [
        Row("What is promised", [Note("Objectives", _MEANINGS)]),
        Row(
            "Budgets",
            [
                Graph(
                    "Burned over three days",
                    [_burn("3d")],
                    Unit.COUNT,
                    "1: the budget of 30 days lasts for exactly 30 days",
                    width=12,
                ),
                Graph(
                    "Burned over an hour and five minutes",
                    [_burn("1h"), _burn("5m")],
                    Unit.COUNT,
                    "Somebody is called where both are above the dashed line",
                    red_from=14.4,
                    width=12,
                ),
            ],
        ),
        Row(
            "Shares that go wrong",
            [
                Graph(
                    each.slo,
                    [
                        Query(f'headrace:slo_errors:ratio_rate{window}{{slo="{each.slo}"}}', window)
                        for window in WINDOWS
                    ],
                    Unit.RATIO,
                    each.meaning,
                    width=12,
                )
                for each in OBJECTIVES
            ],
        ),
        Row(
            "How much there is",
            [
                Graph(
                    "Events an hour",
                    [Query("3600 * headrace:slo_events:rate1h", "{{slo}}")],
                    Unit.COUNT,
                    "Of few events a share says little: below 20 nobody is called",
                    width=24,
                )
            ],
        ),
    ],
)
