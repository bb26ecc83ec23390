"""A server that a handler needs, S3 for instance: calls are repeated, and jobs wait for it.

A task that meets a fault of it waits where it is, its message kept, and tries again for a while;
while the server is known to be at fault no further jobs are received at all. So an outage costs a
job none of its receives unless it lasts longer than the task may wait.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
import tenacity

from headrace_analysis.errors import AnalysisError
from headrace_common.circuit import CircuitBreaker, CircuitPolicy

log = structlog.get_logger()

Answer = TypeVar("Answer")

_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 15.0
#: How often a task that waits is asked whether it is to end.
_CHECK_SECONDS: Final = 0.2


class Dependency:
    """Makes calls of one server, on any thread."""

    def __init__(self, name: str, policy: CircuitPolicy, *, retry_seconds: float) -> None:
        """Make it.

        Args:
            name: for metrics and people.
            policy: when the server counts as being at fault.
            retry_seconds: how long one call is repeated.
        """
        self.breaker = CircuitBreaker(name, policy)
        self._retry_seconds = retry_seconds

    def call(self, once: Callable[[], Answer], *, check: Callable[[], None]) -> Answer:
        """Return what `once` returns, which is called until it succeeds or fails for good.

        Args:
            once: the call. A retryable AnalysisError means that the server is at fault, any other
                that it is well and this cannot be had.
            check: called all the while; ends the wait by what it raises.

        Raises:
            AnalysisError: a final one at once, a retryable one after `retry_seconds`.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_fault),
            wait=self._wait,
            stop=tenacity.stop_before_delay(self._retry_seconds),
            sleep=lambda seconds: _sleep(seconds, check),
            reraise=True,
        )
        return retrying(lambda: self._try(once))

    def _try(self, once: Callable[[], Answer]) -> Answer:
        if not self.breaker.allow():
            raise AnalysisError(
                "dependency_at_fault",
                f"{self.breaker.dependency} is at fault",
                retryable=True,
                retry_after=self.breaker.seconds_left,
            )
        try:
            answer = once()
        except AnalysisError as error:
            if error.retryable:
                self.breaker.failed(error.code, retry_after=error.retry_after)
            else:
                self.breaker.succeeded()
            raise
        except BaseException:
            self.breaker.leave()
            raise
        self.breaker.succeeded()
        return answer

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, AnalysisError) else None
        log.info("analysis.dependency_waited_for", dependency=self.breaker.dependency)
        return max(_BACKING_OFF(state), asked or 0.0)


_BACKING_OFF: Final = tenacity.wait_exponential(
    multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS
) + tenacity.wait_random(0, _FIRST_WAIT_SECONDS)


def _is_fault(error: BaseException) -> bool:
    return isinstance(error, AnalysisError) and error.retryable


def _sleep(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, _CHECK_SECONDS))
