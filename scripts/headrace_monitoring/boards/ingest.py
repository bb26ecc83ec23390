"""ingest-api: what comes in."""

from typing import Final

from headrace_monitoring.boards.common import aws, numbers, requests
from headrace_monitoring.panels import Board, Graph, Number, Query, Row, Unit, or_none, rate

_JOB: Final = "ingest-api"

BOARD: Final = Board(
    _JOB,
    _JOB,
    "What comes in, and what of it is refused?",
    [
        Row(
            "Now",
            [
                *numbers(_JOB),
                Number(
                    "Uploads under way",
                    Query("sum(headrace_uploads_in_flight)"),
                    Unit.COUNT,
                    "Being received in this moment",
                ),
                Number(
                    "Objects of no job",
                    Query("max(headrace_storage_unknown)"),
                    Unit.COUNT,
                    "In S3, as of the last search",
                    red_from=1,
                ),
            ],
        ),
        Row(
            "Uploads and orders",
            [
                Graph(
                    "Uploads, by outcome",
                    [Query(rate("headrace_uploads_total", "outcome"), "{{outcome}}")],
                    Unit.PER_SECOND,
                    "Codes of errors are told in docs/reference/http-api.md",
                ),
                Graph(
                    "Bytes received",
                    [Query(rate("headrace_upload_bytes_total"), "bytes")],
                    Unit.BYTES_RATE,
                    "Through this service; direct uploads go past it",
                ),
                Graph(
                    "Camera jobs and direct uploads",
                    [
                        Query(
                            or_none(rate("headrace_camera_requests_total", "outcome")),
                            "camera {{outcome}}",
                        ),
                        Query(
                            or_none(rate("headrace_direct_uploads_total", "outcome")),
                            "direct {{outcome}}",
                        ),
                    ],
                    Unit.PER_SECOND,
                    "By what came of them",
                ),
                Graph(
                    "Removed from S3",
                    [
                        Query(
                            or_none(
                                rate("headrace_storage_orphans_removed_total", "kind", "reason")
                            ),
                            "{{kind}} {{reason}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "After uploads that failed, and what no job knows",
                ),
                Graph(
                    "Messages sent",
                    [
                        Query(
                            rate(
                                "headrace_messages_sent_total",
                                "queue",
                                "outcome",
                                where=f'job="{_JOB}"',
                            ),
                            "{{queue}} {{outcome}}",
                        )
                    ],
                    Unit.PER_SECOND,
                    "`failed`: Redis did not take them, and the sweep sends them later",
                ),
            ],
        ),
        requests(_JOB),
        aws(_JOB),
    ],
)
