"""The timeline of jobs: where they spend their time, and where they are now."""

from typing import Final

from headrace_monitoring.panels import (
    RATE,
    Board,
    Graph,
    Note,
    Query,
    Row,
    Unit,
    or_none,
    quantile,
    rate,
)

_STAGE: Final = "headrace_job_stage_duration_seconds"
_ONE: Final = """\
`headrace job ID` shows one job with every entry of its timeline; `headrace watch ID` follows it.
Each entry, each line of the logs and each answer has the job's trace id: where OpenTelemetry is on,
the trace has a span for each of the steps below.
"""


def _mean(kind: str) -> Query:
    chosen = f'{{kind="{kind}"}}'
    return Query(
        f"sum by (status) (rate({_STAGE}_sum{chosen}{RATE}))"
        f" / on (status) (sum by (status) (rate({_STAGE}_count{chosen}{RATE})) > 0)",
        "{{status}}",
    )


BOARD: Final = Board(
    "jobs",
    "Timeline of jobs",
    "Where do jobs spend their time, and where are they now?",
    [
        Row("One job", [Note("One job", _ONE)]),
        Row(
            "Where the time goes",
            [
                Graph(
                    "Audio: mean time in each status",
                    [_mean("audio_analysis")],
                    Unit.SECONDS,
                    "Stacked, it is the life of a mean job",
                    width=12,
                    stacked=True,
                ),
                Graph(
                    "Cameras: mean time in each status",
                    [_mean("cctv_preprocess")],
                    Unit.SECONDS,
                    "Stacked, it is the life of a mean job",
                    width=12,
                    stacked=True,
                ),
                Graph(
                    "Time in each status, 95th percentile",
                    [Query(quantile(0.95, _STAGE, "kind", "status"), "{{kind}} {{status}}")],
                    Unit.SECONDS,
                    "The slow ones: what waits shows here, not in the mean",
                    width=12,
                ),
                Graph(
                    "Stages of a camera job, 95th percentile",
                    [
                        Query(
                            quantile(0.95, "headrace_preprocessor_stage_duration_seconds", "stage"),
                            "{{stage}}",
                        )
                    ],
                    Unit.SECONDS,
                    "What happens while it is `processing`",
                    width=12,
                ),
            ],
        ),
        Row(
            "Where jobs are",
            [
                Graph(
                    "Into each status",
                    [
                        Query(
                            rate(
                                "headrace_job_transitions_total",
                                "status",
                                where='outcome="applied"',
                            ),
                            "{{status}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "All lines are at one height while nothing piles up",
                    width=12,
                ),
                Graph(
                    "Oldest audio job in each status",
                    [Query("max by (status) (headrace_oldest_job_age_seconds)", "{{status}}")],
                    Unit.SECONDS,
                    "A line that climbs steadily is a stuck job. Dashed: somebody is called",
                    red_from=3_600,
                    width=12,
                ),
                Graph(
                    "Jobs that wait in their rows",
                    [Query("max by (waiting_for) (headrace_jobs_waiting)", "{{waiting_for}}")],
                    Unit.COUNT,
                    "For their next try, their time, or a dependency at fault",
                    width=12,
                ),
                Graph(
                    "Reports that came too late, or twice",
                    [
                        Query(
                            or_none(
                                rate(
                                    "headrace_job_transitions_total",
                                    "status",
                                    where='outcome="ignored"',
                                )
                            ),
                            "{{status}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "They change nothing; many of them mean that somebody is slow",
                    width=12,
                ),
            ],
        ),
    ],
)
