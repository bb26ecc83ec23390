"""The analysis servers: tasks, slots, answers."""

from typing import Final

from headrace_monitoring.boards.common import aws, numbers, requests
from headrace_monitoring.panels import Board, Graph, Number, Query, Row, Unit, quantile, rate

_JOB: Final = "speech-analysis-server"
_P: Final = "headrace_analysis"

BOARD: Final = Board(
    _JOB,
    _JOB,
    "Do the analysis servers keep up? Every server on `headrace_analysis` has these figures.",
    [
        Row(
            "Now",
            [
                *numbers(_JOB),
                Number(
                    "Slots that work",
                    Query(f"sum({_P}_slots_busy) / sum({_P}_slots)"),
                    Unit.RATIO,
                    "1 for long: more replicas are wanted",
                ),
                Number(
                    "Messages in SQS",
                    Query('sum(max by (queue) (headrace_sqs_messages{state="visible"}))'),
                    Unit.COUNT,
                    "That nobody has received",
                ),
            ],
        ),
        Row(
            "Tasks",
            [
                Graph(
                    "Attempts, by outcome",
                    [
                        Query(
                            rate(f"{_P}_tasks_total", "transport", "outcome"),
                            "{{transport}} {{outcome}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "How they ended",
                ),
                Graph(
                    "Time of an attempt",
                    [
                        Query(quantile(0.5, f"{_P}_task_duration_seconds"), "median"),
                        Query(quantile(0.95, f"{_P}_task_duration_seconds"), "95th percentile"),
                    ],
                    Unit.SECONDS,
                    "From its start to the settled message",
                ),
                Graph(
                    "Slots",
                    [
                        Query(f"sum({_P}_slots)", "there are"),
                        Query(f"sum({_P}_slots_busy)", "work"),
                    ],
                    Unit.COUNT,
                    "Of all replicas",
                ),
                Graph(
                    "Messages received",
                    [Query(rate(f"{_P}_messages_received_total", "lane"), "{{lane}}")],
                    Unit.PER_SECOND,
                    "`any`: from the queue that lanes share",
                ),
                Graph(
                    "Reports",
                    [Query(rate(f"{_P}_reports_total", "kind", "outcome"), "{{kind}} {{outcome}}")],
                    Unit.PER_SECOND,
                    "Attempts to deliver one",
                ),
                Graph(
                    "What should be rare",
                    [
                        Query(rate(f"{_P}_duplicate_deliveries_total"), "delivered again"),
                        Query(rate(f"{_P}_leases_lost_total"), "leases lost"),
                        Query(rate(f"{_P}_http_refused_total"), "refused: all is full"),
                        Query(rate(f"{_P}_tasks_stopped_total"), "told to stop"),
                    ],
                    Unit.PER_SECOND,
                    "Leases are lost where a server is frozen, or its clock jumps",
                ),
            ],
        ),
        requests(_JOB),
        aws(_JOB),
    ],
)
