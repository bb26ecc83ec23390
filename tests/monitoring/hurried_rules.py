"""The rules as the drill loads them: nobody waits four hours there for an alert.

This is the one place where they differ from those of production. Conditions, counts and limits up
to two minutes stay; what is longer is shortened as the tables here say.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from headrace_monitoring.__main__ import GROUPS
from headrace_monitoring.rules import Alert, Group, Recording

#: Seconds that a condition lasts, or an alert is kept, instead of minutes and hours.
LASTS: Final = "4s"
#: Between two evaluations of a group.
INTERVAL: Final = "2s"
#: How far the rules look back, instead of how far they do. At least six scrapes of two seconds;
#: of two windows that an alert looks at at once, the longer one stays the longer one.
WINDOWS: Final = {
    "5m": "12s",
    "15m": "16s",
    "30m": "16s",
    "1h": "20s",
    "2h": "20s",
    "6h": "24s",
    "1d": "30s",
    "3d": "36s",
}
#: That of a sub-query: five leaders in turn take as long here as there.
SUBQUERIES: Final = {"[15m:15s]": "[60s:2s]"}
#: Limits of over two minutes, in seconds: instead of those of production.
LIMITS: Final = {
    "HeadraceJobsStuck": ("> 3600", "> 20"),
    "HeadraceSweepStale": ("> 600", "> 20"),
    "HeadraceDeadLettersUndecided": ("> 259200", "> 20"),
    "HeadraceFiringsPending": ("> 300", "> 20"),
    "HeadraceStreamPendingOld": ("> 3600", "> 20"),
}

_WINDOW: Final = re.compile(r"\[(\d+[mhd])\]")


def hurried(groups: Sequence[Group] = GROUPS) -> list[Group]:
    """Return the groups, with all that is long in them shortened."""
    return [
        replace(group, interval=INTERVAL, rules=[_hurried(rule) for rule in group.rules])
        for group in groups
    ]


def _hurried(rule: Recording | Alert) -> Recording | Alert:
    expr = _WINDOW.sub(lambda found: f"[{WINDOWS[found[1]]}]", rule.expr)
    for long, short in SUBQUERIES.items():
        expr = expr.replace(long, short)
    if isinstance(rule, Recording):
        return replace(rule, expr=expr)
    if rule.name in LIMITS:
        long, short = LIMITS[rule.name]
        assert expr.count(long) == 1, f"{rule.name} has no limit {long!r} any more"
        expr = expr.replace(long, short)
    lasts = rule.lasts if rule.lasts == "0m" else LASTS
    return replace(rule, expr=expr, lasts=lasts, keeps=LASTS if rule.keeps else None)


def times_of(alert: Alert, *, drilled: bool) -> str:
    """Say which times an alert goes by: limit, how far it looks back, how long that must last.

    Args:
        alert: as in production.
        drilled: tell those of the drill.
    """
    shown = _hurried(alert) if drilled else alert
    assert isinstance(shown, Alert)
    limits = LIMITS.get(alert.name)
    parts = [f"{limits[drilled]} s"] if limits else []
    recorded = re.findall(r"ratio_rate(\d+[mhd])", alert.expr)
    windows = [WINDOWS[each] if drilled else each for each in recorded]
    windows += re.findall(r"\[([^\]]+)\]", shown.expr)
    parts += [f"of {', '.join(dict.fromkeys(windows))}"] if windows else []
    parts += [f"for {shown.lasts}"] if shown.lasts != "0m" else ["at once"]
    parts += [f"kept {shown.keeps}"] if shown.keeps else []
    return ", ".join(parts)
