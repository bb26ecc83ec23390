"""The overview: is everybody served, and if not, where does it stop?"""

from typing import Final

from headrace_monitoring.panels import (
    RATE,
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

_SERVICES: Final = "ingest-api|dispatcher|scheduler|results|gpu-preprocessor|speech-analysis-server"
_ENDED: Final = "headrace_job_duration_seconds"

BOARD: Final = Board(
    "overview",
    "Overview",
    "Is everybody served, and if not, where does it stop?",
    [
        Row(
            "Now",
            [
                Number(
                    "Alerts that fire",
                    Query(
                        'count(ALERTS{alertstate="firing",alertname=~"Headrace.*"}) or vector(0)'
                    ),
                    Unit.COUNT,
                    "Each has a page in docs/runbooks",
                    red_from=1,
                ),
                Number(
                    "Jobs completed a minute",
                    Query(
                        '60 * (sum(rate(headrace_job_duration_seconds_count{status="completed"}'
                        f"{RATE})) or vector(0))"
                    ),
                    Unit.COUNT,
                    "Audio and camera jobs together",
                ),
                Number(
                    "Jobs that wait",
                    Query('sum(max by (queue) (headrace_queue_jobs{state="waiting"}))'),
                    Unit.COUNT,
                    "In all lanes and the stream",
                ),
                Number(
                    "Oldest that waits",
                    Query("max(headrace_queue_oldest_age_seconds)"),
                    Unit.SECONDS,
                    "Since the job that waits longest began to",
                    red_from=600,
                ),
                Number(
                    "Dead letters",
                    Query(
                        'sum(max by (source) (headrace_dead_letters{state="dead"})) or vector(0)'
                    ),
                    Unit.COUNT,
                    "About which nobody has decided",
                    red_from=1,
                ),
                Number(
                    "Leaders of the schedules",
                    Query("sum(headrace_scheduler_leader)"),
                    Unit.COUNT,
                    "One, but for the second in which another takes over",
                    green_from=1,
                ),
            ],
        ),
        Row(
            "Jobs",
            [
                Graph(
                    "Ended, by status",
                    [Query(or_none(rate(f"{_ENDED}_count", "kind", "status")))],
                    Unit.PER_SECOND,
                    "What comes out",
                    stacked=True,
                ),
                Graph(
                    "Waiting, by queue",
                    [Query('max by (queue) (headrace_queue_jobs{state="waiting"})', "{{queue}}")],
                    Unit.COUNT,
                    "What has come in and is not begun",
                    stacked=True,
                ),
                Graph(
                    "Oldest that waits, by queue",
                    [Query("max by (queue) (headrace_queue_oldest_age_seconds)", "{{queue}}")],
                    Unit.SECONDS,
                    "Grows by a second each second where nothing is taken off a queue",
                ),
                Graph(
                    "Time until the end, 95th percentile",
                    [Query(quantile(0.95, _ENDED, "kind", "lane"), "{{kind}} {{lane}}")],
                    Unit.SECONDS,
                    "From queued to ended",
                ),
                Graph(
                    "Reports of the analysis servers",
                    [
                        Query(or_none(rate("headrace_reports_received_total", "source"))),
                        Query(or_none(rate("headrace_reports_refused_total")), "refused"),
                    ],
                    Unit.PER_SECOND,
                    "Without them no audio job ends",
                ),
                Graph(
                    "Jobs sent, by transport",
                    [Query(or_none(rate("headrace_dispatches_total", "transport", "outcome")))],
                    Unit.PER_SECOND,
                    "How far the roll-out to SQS has come, and what is refused",
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Parts",
            [
                Graph(
                    "Replicas that answer",
                    [Query(f'sum by (job) (up{{job=~"{_SERVICES}"}})', "{{job}}")],
                    Unit.COUNT,
                    "By service",
                ),
                Graph(
                    "Circuits",
                    [
                        Query(
                            "max by (job, dependency) (headrace_circuit_open)",
                            "{{job}}: {{dependency}}",
                        )
                    ],
                    Unit.COUNT,
                    "1: the dependency is at fault, and work waits for it",
                    most=1,
                ),
                Graph(
                    "Requests answered with 5xx",
                    [
                        Query(
                            "sum by (job) (rate(headrace_http_request_duration_seconds_count"
                            f'{{status=~"5.."}}{RATE})) or vector(0)',
                            "{{job}}",
                        )
                    ],
                    Unit.REQUESTS,
                    "By service",
                ),
            ],
        ),
    ],
)
