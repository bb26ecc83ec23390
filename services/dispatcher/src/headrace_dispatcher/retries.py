"""What to do with a job that was not taken, and when to try again: pure decisions."""

from dataclasses import dataclass
from typing import Final, Literal

from headrace_dispatcher.transports import TransportError

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


def plan_retry(
    error: TransportError, *, deliveries: int, max_retries: int, base_seconds: float, jitter: float
) -> RetryPlan:
    """Decide whether to try again, and after how long.

    Exponential back-off with jitter: base, 4 x base, 16 x base ..., each between half and
    all of it, and never below what the other side asked for.

    Args:
        error: why it was not taken.
        deliveries: times that a worker took the job up, this one included; a worker that was
            killed counts too.
        max_retries: tries after the first.
        base_seconds: first delay.
        jitter: from 0 to 1.
    """
    if not error.retryable or deliveries > max_retries:
        return RetryPlan("give_up")
    delay = min(base_seconds * _BACKOFF_FACTOR ** (deliveries - 1), MAX_DELAY_SECONDS)
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
