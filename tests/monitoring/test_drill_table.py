"""The page of alerts is of the rules that there are."""

import re

from drill_table import ALERTS, BEGIN, END, PAGE
from headrace_monitoring.__main__ import GROUPS
from hurried_rules import hurried, times_of

ROW = re.compile(
    r"^\| \[(\w+)\]\(../runbooks/\1.md\) \| [^|]+ \| ([^|]+) \| ([^|]+) \| \d+ s \| \d+ s \|$",
    re.MULTILINE,
)


def test_every_alert_was_drilled_as_it_is_now() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = {name: tuple(times) for name, *times in ROW.findall(table)}
    assert rows == {
        name: (times_of(alert, drilled=False), times_of(alert, drilled=True))
        for name, alert in ALERTS.items()
    }


def test_the_drill_shortens_times_and_nothing_else() -> None:
    numbers = re.compile(r"\[[^\]]+\]|(?<=> )\d+")
    for before, after in zip(GROUPS, hurried(), strict=True):
        assert [rule.labels for rule in before.rules] == [rule.labels for rule in after.rules]
        for long, short in zip(before.rules, after.rules, strict=True):
            assert numbers.sub("", long.expr) == numbers.sub("", short.expr)
