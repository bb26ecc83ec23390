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
_STAGES: Final = 'status=~"queuing|processing|queued_for_analysis"'
_SILENCE: Final = (
    'sum(increase(headrace_dispatches_total{outcome="taken"}[30m]))'
    ' * ((sum(increase(headrace_reports_received_total{source!="stream"}[30m])) or vector(0))'
    " + sum(increase(headrace_analysis_heartbeats_received_total[30m])) == bool 0)"
)
_STARVED: Final = (
    "max(headrace_preprocessor_stream_lag) * (sum(headrace_preprocessor_slots_busy) == bool 0)"
    ' or max(headrace_queue_jobs{state="waiting",'
    'queue!~"high_priority|audio_analysis|low_priority"})'
)

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
            "Where it may stand still",
            [
                Number(
                    "Longest in one stage",
                    Query(f"max(headrace_oldest_job_age_seconds{{{_STAGES}}})"),
                    Unit.SECONDS,
                    "Of the audio jobs that are on their way; which stage: Timeline of jobs",
                    red_from=3_600,
                ),
                Number(
                    "Jobs sent into silence",
                    Query(_SILENCE),
                    Unit.COUNT,
                    "Jobs that were sent in half an hour in which no analysis server said anything",
                    red_from=6,
                ),
                Number(
                    "Dead letters in half an hour",
                    Query("sum(increase(headrace_dead_letters_collected_total[30m]))"),
                    Unit.COUNT,
                    "Somebody is called for more than five of one source",
                    red_from=6,
                ),
                Number(
                    "Camera jobs nobody takes",
                    Query(_STARVED),
                    Unit.COUNT,
                    "They wait while no slot of any gpu-preprocessor works, or there is none",
                    red_from=1,
                ),
                Number(
                    "Circuits that are open",
                    Query(
                        "count(max by (job, dependency) (headrace_circuit_open) > 0) or vector(0)"
                    ),
                    Unit.COUNT,
                    "What they lead to is at fault, and work waits for it",
                    red_from=1,
                ),
                Number(
                    "Since the last sweep",
                    Query("time() - max(headrace_sweep_last_success_timestamp_seconds)"),
                    Unit.SECONDS,
                    "It finds what was lost",
                    red_from=600,
                ),
            ],
        ),
        Row(
            "Alerts",
            [
                Graph(
                    "Alerts that fire, by name",
                    [
                        Query(
                            or_none(
                                "sum by (alertname, severity)"
                                ' (ALERTS{alertstate="firing",alertname=~"Headrace.*"})'
                            ),
                            "{{alertname}} {{severity}}",
                        )
                    ],
                    Unit.COUNT,
                    "Since when each does; docs/runbooks has a page for each",
                    width=24,
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Jobs",
            [
                Graph(
                    "Ended, by status",
                    [
                        Query(
                            or_none(rate(f"{_ENDED}_count", "kind", "status")),
                            "{{kind}} {{status}}",
                        )
                    ],
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
                    "Grows by a second each second where nothing is taken off a queue. Dashed: "
                    "somebody is called for the high lane; for the others at half an hour",
                    red_from=120,
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
                        Query(
                            or_none(rate("headrace_reports_received_total", "source")), "{{source}}"
                        ),
                        Query(or_none(rate("headrace_reports_refused_total")), "refused"),
                    ],
                    Unit.PER_SECOND,
                    "Without them no audio job ends",
                ),
                Graph(
                    "Jobs sent, by transport",
                    [
                        Query(
                            or_none(rate("headrace_dispatches_total", "transport", "outcome")),
                            "{{transport}} {{outcome}}",
                        )
                    ],
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
                            or_none(
                                rate(
                                    "headrace_http_request_duration_seconds_count",
                                    "job",
                                    where='status=~"5.."',
                                )
                            ),
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
