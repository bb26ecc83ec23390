"""What every process measures; each service adds its own beside what it measures."""

from collections.abc import Iterable
from itertools import product
from typing import Final

from prometheus_client import Counter, Histogram

from headrace_common.contracts.jobs import JobStatus


def from_zero(counter: Counter, *values: Iterable[str]) -> None:
    """Let a counter begin at zero: of a series that begins at one, nobody sees that it grew.

    Args:
        counter: with labels.
        values: of each label, in their order; every combination begins.
    """
    for combination in product(*values):
        counter.labels(*combination)


#: Seconds. From a health check to an upload of a large file.
_HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
#: Seconds. Up to what an actor may take, and an hour: house-keeping goes on until it is done.
_ACTOR_BUCKETS: Final = (*_HTTP_BUCKETS, 900, 3_600)

HTTP_REQUESTS: Final = Histogram(
    "headrace_http_request_duration_seconds",
    "Time from the request's first byte to the response's last; an event stream lasts for minutes",
    ["method", "route", "status"],
    buckets=_HTTP_BUCKETS,
)
TRANSITIONS: Final = Counter(
    "headrace_job_transitions_total",
    "Changes of a job's status, by whether the guard let them through",
    ["status", "outcome"],
)
from_zero(TRANSITIONS, JobStatus, ("applied", "ignored"))
MESSAGES_SENT: Final = Counter(
    "headrace_messages_sent_total", "Dramatiq messages sent", ["queue", "outcome"]
)
MESSAGES_PROCESSED: Final = Histogram(
    "headrace_message_duration_seconds",
    "Time an actor worked on a message",
    ["actor", "outcome"],
    buckets=_ACTOR_BUCKETS,
)
EVENTS_UNPUBLISHED: Final = Counter(
    "headrace_job_events_unpublished_total",
    "Job events that Redis did not take; readers find them in the database",
)
