"""dispatcher: from the lanes to the analysis servers."""

from typing import Final

from headrace_monitoring.boards.common import aws, numbers, requests
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

_JOB: Final = "dispatcher"
_ENTRIES: Final = "headrace_dispatch_batch_entries"

BOARD: Final = Board(
    _JOB,
    _JOB,
    "How do jobs get from the lanes to the analysis servers, and what is lost on the way?",
    [
        Row(
            "Now",
            [
                *numbers(_JOB),
                Number(
                    "Since the last sweep",
                    Query("time() - max(headrace_sweep_last_success_timestamp_seconds)"),
                    Unit.SECONDS,
                    "It finds what was lost",
                    red_from=600,
                ),
                Number(
                    "Share over SQS",
                    Query("max(headrace_rollout_sqs_ratio)"),
                    Unit.RATIO,
                    "Of new jobs",
                ),
                Number(
                    "Share copied to the other side",
                    Query("max(headrace_rollout_shadow_ratio)"),
                    Unit.RATIO,
                    "To compare the answers",
                ),
                Number(
                    "Oldest dead letter",
                    Query("max(headrace_dead_letters_oldest_age_seconds)"),
                    Unit.SECONDS,
                    "About which nobody has decided",
                    red_from=86_400,
                ),
            ],
        ),
        Row(
            "Queues",
            [
                Graph(
                    "Jobs in the queues",
                    [Query("max by (queue, state) (headrace_queue_jobs)", "{{queue}} {{state}}")],
                    Unit.COUNT,
                    "From their rows",
                    width=6,
                ),
                Graph(
                    "Messages in Redis",
                    [
                        Query(
                            "max by (queue, state) (headrace_queue_messages)", "{{queue}} {{state}}"
                        )
                    ],
                    Unit.COUNT,
                    "Messages without rows are done soon; rows without messages the sweep mends",
                    width=6,
                ),
                Graph(
                    "Messages in SQS",
                    [Query("max by (queue, state) (headrace_sqs_messages)", "{{queue}} {{state}}")],
                    Unit.COUNT,
                    "About, as SQS itself says; what KEDA scales the analysis servers by",
                    width=6,
                ),
                Graph(
                    "Paused",
                    [Query("max by (queue) (headrace_queue_paused)", "{{queue}}")],
                    Unit.FLAG,
                    "Nothing is taken off these",
                    most=1,
                    width=6,
                ),
            ],
        ),
        Row(
            "Sending",
            [
                Graph(
                    "Jobs, by transport and lane",
                    [
                        Query(
                            rate("headrace_dispatches_total", "transport", "lane", "outcome"),
                            "{{transport}} {{lane}} {{outcome}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "`refused`: by the analysis server or SQS",
                    width=6,
                ),
                Graph(
                    "Jobs in a batch, mean",
                    [
                        Query(
                            f"{rate(f'{_ENTRIES}_sum', 'transport')}"
                            f" / ({rate(f'{_ENTRIES}_count', 'transport')} > 0)",
                            "{{transport}}",
                        )
                    ],
                    Unit.COUNT,
                    "Ten at most",
                    width=6,
                ),
                Graph(
                    "Time of a batch, 95th percentile",
                    [
                        Query(
                            quantile(0.95, "headrace_dispatch_batch_duration_seconds", "transport"),
                            "{{transport}}",
                        )
                    ],
                    Unit.SECONDS,
                    "Sent and noted",
                    width=6,
                ),
                Graph(
                    "Circuits",
                    [
                        Query(
                            f'max by (dependency) (headrace_circuit_open{{job="{_JOB}"}})',
                            "{{dependency}}",
                        )
                    ],
                    Unit.COUNT,
                    "1: at fault, and work waits",
                    most=1,
                    width=6,
                ),
            ],
        ),
        Row(
            "Actors",
            [
                Graph(
                    "Messages worked off",
                    [
                        Query(
                            rate(
                                "headrace_message_duration_seconds_count",
                                "actor",
                                "outcome",
                                where=f'job="{_JOB}"',
                            ),
                            "{{actor}} {{outcome}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "By actor",
                ),
                Graph(
                    "Time, 95th percentile",
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
                    "Of an actor on a message",
                ),
                Graph(
                    "Tried again, and given up",
                    [
                        Query(
                            rate("headrace_messages_retried_total", "actor", where=f'job="{_JOB}"'),
                            "again {{actor}}",
                        ),
                        Query(
                            rate(
                                "headrace_messages_given_up_total", "actor", where=f'job="{_JOB}"'
                            ),
                            "given up {{actor}}",
                        ),
                    ],
                    Unit.PER_SECOND,
                    "Messages of Dramatiq",
                ),
            ],
        ),
        Row(
            "What was mended, and what was not",
            [
                Graph(
                    "Mended by the sweep",
                    [
                        Query(
                            or_none(rate("headrace_jobs_recovered_total", "action", "code")),
                            "{{action}} {{code}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "Jobs that were lost on their way",
                ),
                Graph(
                    "Dead letters that were found",
                    [Query(rate("headrace_dead_letters_collected_total", "source"), "{{source}}")],
                    Unit.PER_SECOND,
                    "By where they died",
                ),
                Graph(
                    "Roll-backs, and copies to the other side",
                    [
                        Query(rate("headrace_rollbacks_total", "side", "by"), "{{side}} by {{by}}"),
                        Query(or_none(rate("headrace_shadow_copies_total")), "copies"),
                    ],
                    Unit.PER_SECOND,
                    "Of the roll-out",
                ),
            ],
        ),
        requests(_JOB),
        aws(_JOB),
    ],
)
