"""gpu-preprocessor: the stream, the slots, the memory, the stages."""

from typing import Final

from headrace_monitoring.boards.common import numbers, requests
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

_JOB: Final = "gpu-preprocessor"
_P: Final = "headrace_preprocessor"

BOARD: Final = Board(
    _JOB,
    _JOB,
    "Are the slots busy, and what holds them up?",
    [
        Row(
            "Now",
            [
                *numbers(_JOB),
                Number(
                    "Not handed out",
                    Query(f"max({_P}_stream_lag)"),
                    Unit.COUNT,
                    "Entries of the stream that no worker has",
                ),
                Number(
                    "In hand",
                    Query(f"max({_P}_stream_pending)"),
                    Unit.COUNT,
                    "Handed out and not acknowledged",
                ),
                Number(
                    "Oldest in hand",
                    Query(f"max({_P}_oldest_pending_age_seconds)"),
                    Unit.SECONDS,
                    "Its age",
                    red_from=3_600,
                ),
                Number(
                    "Slots that work",
                    Query(f"sum({_P}_slots_busy) / sum({_P}_slots)"),
                    Unit.RATIO,
                    "Of all replicas",
                ),
            ],
        ),
        Row(
            "Slots and the stream",
            [
                Graph(
                    "Slots",
                    [
                        Query(f"sum({_P}_slots)", "there are"),
                        Query(f"sum({_P}_slots_busy)", "work"),
                        Query(f"sum({_P}_paused)", "replicas that are paused"),
                    ],
                    Unit.COUNT,
                    "Idle slots while entries wait: the alert HeadraceGpuStarved",
                ),
                Graph(
                    "The stream",
                    [
                        Query(f"max({_P}_stream_lag)", "not handed out"),
                        Query(f"max({_P}_stream_pending)", "in hand"),
                        Query(f"max({_P}_delayed_entries)", "wait for another attempt"),
                        Query(f"max({_P}_dead_letter_stream_length)", "dead letters"),
                    ],
                    Unit.COUNT,
                    "Entries",
                ),
                Graph(
                    "What came of entries",
                    [
                        Query(rate(f"{_P}_jobs_processed_total"), "done"),
                        Query(rate(f"{_P}_jobs_retried_total"), "another attempt"),
                        Query(or_none(rate(f"{_P}_dead_letters_total")), "given up"),
                        Query(rate(f"{_P}_handed_back_total"), "handed back"),
                        Query(rate(f"{_P}_duplicates_total"), "twice there"),
                        Query(rate(f"{_P}_jobs_cancelled_total"), "cancelled"),
                    ],
                    Unit.PER_SECOND,
                    "Handed back: at a stop, or for want of memory",
                ),
                Graph(
                    "Attempts that failed, by code",
                    [
                        Query(
                            or_none(rate(f"{_P}_attempts_failed_total", "code")),
                            "{{code}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "docs/reference/video-errors.md tells the codes",
                ),
                Graph(
                    "Deliveries",
                    [Query(rate(f"{_P}_deliveries_total", "kind"), "{{kind}}")],
                    Unit.PER_SECOND,
                    "Taken over: of a worker that was silent",
                ),
                Graph(
                    "Leases",
                    [Query(rate(f"{_P}_lease_renewals_total", "outcome"), "{{outcome}}")],
                    Unit.PER_SECOND,
                    "`lost`: another has the entry",
                ),
            ],
        ),
        Row(
            "Memory",
            [
                Graph(
                    "Free",
                    [
                        Query(f"{_P}_memory_free_bytes", "{{instance}} {{probe}}"),
                        Query(f"{_P}_memory_total_bytes", "all of {{instance}} {{probe}}"),
                    ],
                    Unit.BYTES,
                    "`cuda` and `nvml` are the GPU's, where there is one",
                ),
                Graph(
                    "Promised, and what a job needs",
                    [
                        Query(f"{_P}_memory_promised_bytes", "promised {{instance}}"),
                        Query(f"{_P}_memory_estimate_bytes", "a job {{kind}} {{instance}}"),
                    ],
                    Unit.BYTES,
                    "As learned from jobs before",
                ),
                Graph(
                    "Jobs wait",
                    [
                        Query(f"max({_P}_memory_holding)", "for memory"),
                        Query(f"max({_P}_dependency_holding)", "for a dependency"),
                        Query(rate(f"{_P}_out_of_memory_total"), "memory ran out, a second"),
                    ],
                    Unit.COUNT,
                    "1: on some replica",
                ),
            ],
        ),
        Row(
            "Work",
            [
                Graph(
                    "Stages, 95th percentile",
                    [Query(quantile(0.95, f"{_P}_stage_duration_seconds", "stage"), "{{stage}}")],
                    Unit.SECONDS,
                    "Of a job",
                ),
                Graph(
                    "An attempt, 95th percentile",
                    [Query(quantile(0.95, f"{_P}_job_duration_seconds", "outcome"), "{{outcome}}")],
                    Unit.SECONDS,
                    "From its start to its end",
                ),
                Graph(
                    "Detection, 95th percentile",
                    [Query(quantile(0.95, "headrace_detection_duration_seconds"), "a picture")],
                    Unit.SECONDS,
                    "In one picture",
                ),
                Graph(
                    "Damages found",
                    [
                        Query(
                            or_none(rate("headrace_damages_total", "damage_class", "severity")),
                            "{{damage_class}} {{severity}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "A class that vanishes tells of a model that is wrong",
                ),
                Graph(
                    "Requests to Swift",
                    [
                        Query(
                            rate(
                                "headrace_swift_request_duration_seconds_count",
                                "operation",
                                "outcome",
                            ),
                            "{{operation}} {{outcome}}",
                        )
                    ],
                    Unit.REQUESTS,
                    "By what came of them",
                ),
                Graph(
                    "Swift, 95th percentile",
                    [
                        Query(
                            quantile(0.95, "headrace_swift_request_duration_seconds", "operation"),
                            "{{operation}}",
                        )
                    ],
                    Unit.SECONDS,
                    "Time of a request",
                ),
            ],
        ),
        requests(_JOB),
    ],
)
