"""results: what the analysis servers say, and who listens."""

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

_JOB: Final = "results"

BOARD: Final = Board(
    _JOB,
    _JOB,
    "What do the analysis servers say, is it applied, and who listens?",
    [
        Row(
            "Now",
            [
                *numbers(_JOB),
                Number(
                    "Event streams",
                    Query("sum(headrace_sse_clients)"),
                    Unit.COUNT,
                    "Clients that follow jobs",
                ),
                Number(
                    "Reports to be applied",
                    Query('max(headrace_reports_unapplied{state="waiting"})'),
                    Unit.COUNT,
                    "In the inbox",
                    red_from=100,
                ),
                Number(
                    "Reports that were given up",
                    Query('max(headrace_reports_unapplied{state="poisoned"})'),
                    Unit.COUNT,
                    "They are dead letters too",
                    red_from=1,
                ),
            ],
        ),
        Row(
            "Reports",
            [
                Graph(
                    "Received",
                    [
                        Query(
                            rate("headrace_reports_received_total", "source", "duplicate"),
                            "{{source}}, known: {{duplicate}}",
                        ),
                        Query(rate("headrace_analysis_heartbeats_received_total"), "heartbeats"),
                    ],
                    Unit.PER_SECOND,
                    "By webhook, result queue and stream",
                ),
                Graph(
                    "Refused",
                    [
                        Query(
                            or_none(rate("headrace_reports_refused_total", "source", "reason")),
                            "{{source}} {{reason}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "Unauthenticated, malformed, or of no job",
                ),
                Graph(
                    "Applied",
                    [Query(rate("headrace_reports_applied_total", "outcome"), "{{outcome}}")],
                    Unit.PER_SECOND,
                    "`failed` is tried again",
                ),
                Graph(
                    "Time of the actor, 95th percentile",
                    [
                        Query(
                            quantile(
                                0.95,
                                "headrace_message_duration_seconds",
                                "actor",
                                where=f'job="{_JOB}"',
                            ),
                            "{{actor}}",
                        )
                    ],
                    Unit.SECONDS,
                    "On one report",
                ),
                Graph(
                    "Compared with the other side",
                    [
                        Query(
                            or_none(rate("headrace_shadow_runs_compared_total", "outcome")),
                            "{{outcome}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "Of the roll-out's copies",
                ),
                Graph(
                    "Camera jobs",
                    [
                        Query(
                            or_none(rate("headrace_camera_entries_total", "outcome")),
                            "entry {{outcome}}",
                        ),
                        Query(
                            or_none(rate("headrace_camera_jobs_recovered_total", "action")),
                            "swept: {{action}}",
                        ),
                    ],
                    Unit.PER_SECOND,
                    "Entries of the stream, and those that were lost",
                ),
            ],
        ),
        Row(
            "Event streams",
            [
                Graph(
                    "Open",
                    [Query("headrace_sse_clients", "{{instance}}")],
                    Unit.COUNT,
                    "By replica",
                ),
                Graph(
                    "Served from the database",
                    [Query(rate("headrace_sse_replays_total"), "replays")],
                    Unit.PER_SECOND,
                    "When a client comes, or has missed events",
                ),
                Graph(
                    "Hears events",
                    [Query("headrace_sse_hub_connected", "{{instance}}")],
                    Unit.FLAG,
                    "Through Redis; without it clients are served by looking",
                    most=1,
                ),
            ],
        ),
        requests(_JOB),
    ],
)
