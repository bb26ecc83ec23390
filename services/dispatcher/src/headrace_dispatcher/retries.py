"""What to do with a job that was not taken, and when to try again: pure decisions."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job
from headrace_dispatcher.transports import TransportError

#: Of a job's metadata: times that its way was refused for a reason that may be its own.
REFUSALS: Final = "dispatch_refusals"
#: Each further delay is so many times the one before.
_BACKOFF_FACTOR: Final = 4
#: Longest delay that we choose ourselves, or believe a server.
MAX_DELAY_SECONDS: Final = 300.0
#: A hold is longer than what it waits for by up to this share, so that not all come at once.
_SPREAD: Final = 0.25


@dataclass(frozen=True)
class RetryPlan:
    """What to do with a job that was not taken."""

    action: Literal["retry", "give_up"]
    delay_seconds: float = 0.0


def refusals_of(job: Job) -> int:
    """Return how often a job was refused in its present stage."""
    told = job.meta.get(REFUSALS)
    return told if job.status == JobStatus.PROCESSING and isinstance(told, int) else 0


def is_poison(job: Job, *, deliveries: int, most: int) -> bool:
    """Whether too many workers ended without ending the job.

    A refusal is an end, so that kills are told from refusals: a few crashes in a bad hour cost an
    innocent job no try.

    Args:
        job: as it was before it was taken up.
        deliveries: times that a worker took it up, this one included.
        most: workers that may die of it.
    """
    return deliveries - 1 - refusals_of(job) >= most


def costs_a_try(
    error: TransportError, *, is_closed: bool, waited: timedelta, patience: timedelta
) -> bool:
    """Whether a refusal counts against the job; if not, it waits for the other side.

    A job that makes a server fail and is alone in a quiet system would be for ever what tries
    whether the server answers again. So errors that may be its own count once it waited long.

    Args:
        error: why it was not taken.
        is_closed: whether its circuit is, so that others are taken.
        waited: since it was queued.
        patience: how long it may.
    """
    return not error.systemic and (is_closed or waited > patience)


def plan_retry(
    error: TransportError, *, refusals: int, max_retries: int, base_seconds: float, jitter: float
) -> RetryPlan:
    """Decide whether to try again, and after how long.

    Exponential back-off with jitter: base, 4 x base, 16 x base ..., each between half and
    all of it, and never below what the other side asked for.

    Args:
        error: why it was not taken.
        refusals: of the job in its stage, this one included.
        max_retries: tries after the first.
        base_seconds: first delay.
        jitter: from 0 to 1.
    """
    if not error.retryable or refusals > max_retries:
        return RetryPlan("give_up")
    delay = min(base_seconds * _BACKOFF_FACTOR ** (refusals - 1), MAX_DELAY_SECONDS)
    return RetryPlan("retry", max(delay * (0.5 + jitter / 2), error.retry_after or 0.0))


def hold_seconds(
    *, circuit_seconds: float, retry_after: float | None, least_seconds: float, jitter: float
) -> float:
    """Return how long a job waits for a dependency at fault.

    Args:
        circuit_seconds: until the dependency is tried again.
        retry_after: seconds that it asked to wait.
        least_seconds: shortest wait.
        jitter: from 0 to 1.
    """
    wait = max(circuit_seconds, retry_after or 0.0, least_seconds)
    return wait * (1.0 + _SPREAD * jitter)
