"""The objectives, and what is burned of their budgets.

Each is a share of events that may go wrong. The alerts look at a long and a short window at once:
the long one says that it matters, the short one that it goes on (Google's SRE Workbook, chapter 5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace_monitoring.rules import Alert, Group, Recording, Severity

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
#: Fewer events than these within a long window say nothing: one of two that failed is no trend.
_LEAST_EVENTS: Final = 20
_SECONDS: Final = {"h": 3_600, "d": 86_400}


@dataclass(frozen=True)
class Objective:
    """An objective.

    Attributes:
        slo: its name.
        meaning: for people.
        budget: share of events that may go wrong.
        good: rate of events that went well; `WINDOW` stands for the window.
        total: rate of all of them.
    """

    slo: str
    meaning: str
    budget: float
    good: str
    total: str


_HTTP: Final = "headrace_http_request_duration_seconds_count"
_API: Final = 'job=~"ingest-api|results",route!~"/metrics|/health.*"'


def _finished(kind: str, seconds: str) -> tuple[str, str]:
    """Return the rates of jobs that were completed in time, and of all that were not cancelled."""
    name = "headrace_job_duration_seconds"
    good = f'sum(rate({name}_bucket{{kind="{kind}",status="completed",le="{seconds}"}}[WINDOW]))'
    total = f'sum(rate({name}_count{{kind="{kind}",status!="cancelled"}}[WINDOW]))'
    return f"({good} or vector(0))", total


_AUDIO: Final = _finished("audio_analysis", "900.0")
_CAMERA: Final = _finished("cctv_preprocess", "1800.0")
_DRIFT: Final = "headrace_schedule_drift_seconds"

OBJECTIVES: Final = (
    Objective(
        "api_availability",
        "Requests to ingest-api and results that are not answered with 5xx",
        0.001,
        f'(sum(rate({_HTTP}{{{_API},status!~"5.."}}[WINDOW])) or vector(0))',
        f"sum(rate({_HTTP}{{{_API}}}[WINDOW]))",
    ),
    Objective("audio_jobs", "Audio jobs that are completed within 15 minutes", 0.01, *_AUDIO),
    Objective("camera_jobs", "Camera jobs that are completed within 30 minutes", 0.05, *_CAMERA),
    Objective(
        "schedule_drift",
        "Firings that are recorded within a second of when they are due",
        0.001,
        f'(sum(rate({_DRIFT}_bucket{{le="1.0"}}[WINDOW])) or vector(0))',
        f"sum(rate({_DRIFT}_count[WINDOW]))",
    ),
)


def groups() -> list[Group]:
    """Return the rules of all objectives."""
    return [
        *(Group(f"headrace-slo-{each.slo}", list(_recordings(each))) for each in OBJECTIVES),
        Group("headrace-slo-alerts", list(_alerts())),
    ]


def _recordings(objective: Objective) -> Iterator[Recording]:
    labels = {"slo": objective.slo}
    yield Recording("headrace:slo_budget:ratio", f"vector({objective.budget})", labels)
    for window in WINDOWS:
        good, total = (e.replace("WINDOW", window) for e in (objective.good, objective.total))
        yield Recording(f"headrace:slo_events:rate{window}", total, labels)
        # A counter that was born since the last scrape may make it less than nothing.
        errors = f"clamp_min(1 - {good} / ({total} > 0), 0)"
        yield Recording(f"headrace:slo_errors:ratio_rate{window}", errors, labels)


def _burn(factor: float, long: str, short: str) -> str:
    """Return whether a budget is burned `factor` times as fast as it lasts, in both windows."""
    least = _LEAST_EVENTS / (int(long[:-1]) * _SECONDS[long[-1]])
    limit = f"on(slo) {factor:g} * headrace:slo_budget:ratio"
    return (
        f"(headrace:slo_errors:ratio_rate{long} > {limit}"
        f" and headrace:slo_errors:ratio_rate{short} > {limit}"
        f" and headrace:slo_events:rate{long} > {least:.3g})"
    )


def _alerts() -> Iterator[Alert]:
    yield Alert(
        name="HeadraceSloBurnsFast",
        expr=" or ".join((_burn(14.4, "1h", "5m"), _burn(6, "6h", "30m"))),
        lasts="1m",
        severity=Severity.PAGE,
        board="slo",
        summary="{{ $labels.slo }}: its budget for 30 days would be gone within 5",
    )
    yield Alert(
        name="HeadraceSloBurnsSlowly",
        expr=" or ".join((_burn(3, "1d", "2h"), _burn(1, "3d", "6h"))),
        lasts="15m",
        severity=Severity.TICKET,
        board="slo",
        summary="{{ $labels.slo }}: its budget does not last for 30 days",
    )
