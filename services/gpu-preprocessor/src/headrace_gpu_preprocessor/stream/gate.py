"""What stands before the jobs while something that every one of them needs is at fault: Swift, say.

Memory is guarded before a job begins. That storage is away, full or closed to us shows only when
a job meets it. Without the gate every job of the backlog would meet it, one after the other,
until its retries are used up: a fault of an hour would empty the stream into the dead letters.

When to try again is the circuit breaker's business. Here is what a stream needs beside it: how
many slots may be filled, and which entry should not be the next to try.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, Field

from headrace_common.circuit import CircuitBreaker, CircuitPolicy, CircuitState
from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.stream import metrics

#: Name of the breaker: of what jobs need, Swift alone is everybody's.
DEPENDENCY: Final = "swift"


class GateView(BaseModel):
    """What jobs wait for, for GET /worker/status."""

    code: str = Field(description="Of the error, for instance swift_unavailable")
    message: str
    held_seconds: float
    next_try_seconds: float = Field(description="Until one job is let through to try")


class Gate:
    """Open, closed for a pause, or ajar: one job at a time tries. Safe to use from any thread."""

    def __init__(
        self,
        *,
        first_seconds: float,
        most_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it, open.

        Args:
            first_seconds: the first pause; doubled for each further.
            most_seconds: the longest.
            clock: monotonic seconds.
        """
        # A job repeats its calls before it says that the store is at fault: once is enough.
        policy = CircuitPolicy(failures=1, first_seconds=first_seconds, most_seconds=most_seconds)
        self._breaker = CircuitBreaker(DEPENDENCY, policy, clock=clock)
        self._error: HeadraceError | None = None
        self._passed_over: str | None = None
        self._lock = threading.Lock()

    def places(self, free: int, *, busy: int) -> int:
        """Return how many of `free` slots may be filled while `busy` others work.

        After the pause it is one, and none before that one has ended: one job is enough to see
        whether the fault is over.
        """
        if self._breaker.state is CircuitState.CLOSED:
            return free
        return 0 if busy or self.is_closed else min(1, free)

    @property
    def is_closed(self) -> bool:
        """Whether nothing at all may begin."""
        return self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        """Seconds until one job may try; 0 when one may."""
        return self._breaker.seconds_left

    def close(self, error: HeadraceError, entry_id: str) -> float:
        """Note that a job met a fault; return the seconds until one is let through again.

        Those that ran at the same time meet the same fault, which does not make the pause longer.
        """
        with self._lock:
            # Whoever meets it after the pause is the one that was let through.
            if not self.is_closed:
                self._breaker.allow()
                self._passed_over = entry_id
                metrics.DEPENDENCY_FAULTS.labels(code=error.code).inc()
            self._error = error
            self._breaker.failed(f"{error.code}: {error.detail}", retry_after=error.retry_after)
        metrics.DEPENDENCY_HOLDING.set(1)
        return round(self.seconds_left, 1)

    def open(self) -> None:
        """Note that a job was done, and so nothing is at fault any more."""
        self._breaker.succeeded()
        if self._error is not None:
            with self._lock:
                self._error, self._passed_over = None, None
            metrics.DEPENDENCY_HOLDING.set(0)

    def pass_over(self) -> list[str]:
        """Return the entry that should not be the next to try, once after each closing.

        Entries that were handed back come first, the oldest before all. One that meets a fault of
        its own would try for ever, and no other ever would.
        """
        with self._lock:
            passed, self._passed_over = self._passed_over, None
        return [] if passed is None else [passed]

    def view(self) -> GateView | None:
        """Return what jobs wait for; None if for nothing."""
        error = self._error
        if error is None:
            return None
        breaker = self._breaker.view()
        return GateView(
            code=error.code,
            message=error.detail,
            held_seconds=breaker.open_seconds,
            next_try_seconds=breaker.next_try_seconds,
        )
