"""The page of alerts: what each goes by, and what the last drill measured."""

from collections.abc import Sequence
from typing import Final

from alert_drill import Outcome
from headrace_monitoring.__main__ import GROUPS, PROJECT
from headrace_monitoring.rules import Alert
from hurried_rules import times_of

PAGE: Final = PROJECT / "docs" / "reference" / "alerts.md"
BEGIN: Final = "<!-- Written by `make alert-drill`. -->"
END: Final = "<!-- The end of what it writes. -->"

ALERTS: Final = {
    rule.name: rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)
}


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the table, in the order of the rules."""
    lines = [
        "| alert | fault | in production | in the drill | fires | clears |",
        "|---|---|---|---|--:|--:|",
    ]
    by_alert = {each.alert: each for each in outcomes}
    for name, alert in ALERTS.items():
        each = by_alert[name]
        lines.append(
            f"| [{name}](../runbooks/{name}.md) | {each.fault} | {times_of(alert, drilled=False)}"
            f" | {times_of(alert, drilled=True)} | {each.to_fire:.0f} s | {each.to_clear:.0f} s |"
        )
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome]) -> None:
    """Put the table into the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{after}")
