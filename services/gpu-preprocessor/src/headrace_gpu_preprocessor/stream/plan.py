"""What becomes of an attempt that failed: pure decisions."""

from dataclasses import dataclass
from typing import Final, Self

from headrace_common.contracts.cctv import CctvError
from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.admission.out_of_memory import OutOfMemoryError, is_out_of_memory
from headrace_gpu_preprocessor.stream.settings import StreamSettings

#: An entry that its processes did not survive.
WORKER_KILLED: Final = "worker_killed"
#: What an error asks for is believed up to a day.
_LONGEST_DELAY_SECONDS: Final = 86_400.0
_LONGEST_CODE: Final = 100
_LONGEST_MESSAGE: Final = 1_000


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        code: stable, for programs.
        message: readable, for people.
        retryable: whether another attempt may succeed.
        retry_after: seconds to wait before that, where the error knows.
        expected: False for a bug of ours, which is logged with its traceback.
    """

    code: str
    message: str
    retryable: bool
    retry_after: float | None = None
    expected: bool = True

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Read an exception; one that nobody expected may go away by itself."""
        if isinstance(error, HeadraceError):
            return cls(error.code, error.detail, error.retryable, error.retry_after)
        if is_out_of_memory(error):
            return cls(OutOfMemoryError.code, str(error) or "out of memory", retryable=True)
        message = f"{type(error).__name__}: {error}"
        return cls(HeadraceError.code, message, retryable=True, expected=False)

    def for_report(self) -> CctvError:
        """Return it as reports carry it."""
        return CctvError(code=self.code[:_LONGEST_CODE], message=self.message[:_LONGEST_MESSAGE])


@dataclass(frozen=True)
class RetryLimits:
    """How often and how soon.

    Attributes:
        max_retry: an entry with this attempt is not repeated.
        base_seconds: before the first retry; doubled for each further.
        max_seconds: the longest back-off.
    """

    max_retry: int
    base_seconds: float
    max_seconds: float

    @classmethod
    def of(cls, settings: StreamSettings) -> Self:
        """Read the settings."""
        return cls(
            max_retry=settings.redis_max_retry,
            base_seconds=settings.redis_retry_base_seconds,
            max_seconds=settings.redis_retry_max_seconds,
        )


@dataclass(frozen=True)
class Retry:
    """Try again as `attempt`, after `delay_seconds`."""

    attempt: int
    delay_seconds: float


@dataclass(frozen=True)
class Bury:
    """Give the entry up."""

    code: str
    reason: str


def plan_retry(
    failure: Failure, *, attempt: int, limits: RetryLimits, chance: float
) -> Retry | Bury:
    """Decide what becomes of an entry whose attempt failed.

    Args:
        failure: of this attempt.
        attempt: the entry's own number, 0 for the first.
        limits: by setting.
        chance: from 0 to 1, spreads entries that failed together over half of the back-off.
    """
    if not failure.retryable:
        return Bury(failure.code, failure.message)
    if attempt >= limits.max_retry:
        return Bury(failure.code, f"after {attempt} retries: {failure.message}")
    backoff = min(limits.base_seconds * 2.0 ** min(attempt, 60), limits.max_seconds)
    asked = min(failure.retry_after or 0.0, _LONGEST_DELAY_SECONDS)
    return Retry(attempt + 1, max(backoff * (0.5 + chance / 2), asked))


def plan_delivery(delivery: int, *, max_deliveries: int) -> Bury | None:
    """Decide whether an entry may be worked on that is handed out for the `delivery`th time.

    Ends of an attempt are counted by `attempt`; that an entry is handed out again without one
    means that its process died.
    """
    if delivery <= max_deliveries:
        return None
    return Bury(WORKER_KILLED, f"{delivery - 1} processes died or fell silent over it")
