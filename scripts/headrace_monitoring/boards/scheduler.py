"""scheduler: does what is due fire, and in time?"""

from typing import Final

from headrace_monitoring.panels import (
    Board,
    Graph,
    Number,
    Query,
    Row,
    Unit,
    or_none,
    quantile,
    rate,
)

_PERFORMED: Final = "headrace_firings_performed"
_DRIFT: Final = "headrace_schedule_drift_seconds"

BOARD: Final = Board(
    "scheduler",
    "scheduler",
    "Does what is due fire, and in time? Any dispatcher may lead, or replicas for it alone.",
    [
        Row(
            "Now",
            [
                Number(
                    "Leaders",
                    Query("sum(headrace_scheduler_leader)"),
                    Unit.COUNT,
                    "One",
                    green_from=1,
                ),
                Number(
                    "Leader's last sign of life",
                    Query("max(headrace_scheduler_heartbeat_age_seconds)"),
                    Unit.SECONDS,
                    "By the database's clock",
                    red_from=30,
                ),
                Number(
                    "Term",
                    Query("max(headrace_scheduler_epoch)"),
                    Unit.COUNT,
                    "Counts leaders",
                ),
                Number(
                    "Due",
                    Query("max(headrace_schedules_due)"),
                    Unit.COUNT,
                    "And have not fired",
                ),
                Number(
                    "Firings to be sent",
                    Query("max(headrace_firings_pending)"),
                    Unit.COUNT,
                    "Recorded; their message is not on a queue yet",
                ),
                Number(
                    "Firings that are open",
                    Query("max(headrace_firings_open)"),
                    Unit.COUNT,
                    "Have not ended",
                ),
            ],
        ),
        Row(
            "Firings",
            [
                Graph(
                    "Drift",
                    [
                        Query(f"{quantile(0.5, _DRIFT)}", "median"),
                        Query(f"{quantile(0.99, _DRIFT)}", "99th percentile"),
                    ],
                    Unit.SECONDS,
                    "From due until recorded",
                ),
                Graph(
                    "Recorded",
                    [
                        Query(
                            rate("headrace_firings_total", "origin", "state"),
                            "{{origin}} {{state}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "`skipped`: by the schedule's own policy",
                ),
                Graph(
                    "Worked off",
                    [
                        Query(
                            or_none(f"{rate(f'{_PERFORMED}_total', 'target', 'outcome')} > 0"),
                            "{{target}} {{outcome}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "By target",
                ),
                Graph(
                    "Messages",
                    [Query(rate("headrace_firings_sent_total", "outcome"), "{{outcome}}")],
                    Unit.PER_SECOND,
                    "Of firings",
                ),
                Graph(
                    "Longest that waits for its message",
                    [Query("max(headrace_firings_pending_oldest_seconds)", "oldest")],
                    Unit.SECONDS,
                    "Redis is away, or a limit holds it. Dashed: somebody is called",
                    red_from=300,
                ),
                Graph(
                    "What should not be",
                    [
                        Query(or_none(rate("headrace_schedule_misfires_total")), "misfires"),
                        Query(or_none(rate("headrace_scheduler_timer_faults_total")), "timer"),
                        Query(rate("headrace_schedules_broken_total"), "broken"),
                        Query(rate("headrace_scheduler_elections_total"), "elections"),
                    ],
                    Unit.PER_SECOND,
                    "Misfires come after an outage; elections at roll-outs",
                ),
            ],
        ),
    ],
)
