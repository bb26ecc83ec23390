"""A gate that closes while something that every job needs is at fault: the object store, say.

Memory is guarded before a job begins. That storage is away, full or closed to us shows only when
a job meets it. Without the gate every job of the backlog would meet it, one after the other,
until its retries are used up: a fault of an hour would empty the stream into the dead letters.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog
from pydantic import BaseModel, Field

from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.stream import metrics

log = structlog.get_logger()

#: Each further pause is so many times the last.
_GROWTH: Final = 2.0


class GateView(BaseModel):
    """What jobs wait for, for GET /worker/status."""

    code: str = Field(description="Of the error, for instance swift_unavailable")
    message: str
    held_seconds: float
    next_try_seconds: float = Field(description="Until one job is let through to try")


@dataclass(frozen=True)
class _Fault:
    """What closed the gate.

    Attributes:
        since: monotonic time of the first of these faults.
        until: monotonic time from which one job may try.
        pause: seconds of the pause that ends then.
        entry_id: the entry that met the fault last.
    """

    error: HeadraceError
    since: float
    until: float
    pause: float
    entry_id: str


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
        self._first, self._most = first_seconds, most_seconds
        self._clock = clock
        self._fault: _Fault | None = None
        self._passed_over: str | None = None
        self._lock = threading.Lock()

    def places(self, free: int, *, busy: int) -> int:
        """Return how many of `free` slots may be filled while `busy` others work.

        After the pause it is one, and none before that one has ended: one job is enough to see
        whether the fault is over.
        """
        fault = self._fault
        if fault is None:
            return free
        return 0 if busy or self._clock() < fault.until else min(1, free)

    @property
    def is_closed(self) -> bool:
        """Whether nothing at all may begin."""
        return self.seconds_left > 0

    @property
    def seconds_left(self) -> float:
        """Seconds until one job may try; 0 when one may."""
        fault = self._fault
        return 0.0 if fault is None else max(0.0, fault.until - self._clock())

    def close(self, error: HeadraceError, entry_id: str) -> float:
        """Note that a job met a fault; return the seconds until one is let through again.

        Those that ran at the same time meet the same fault, which does not make the pause longer.
        """
        with self._lock:
            now, fault = self._clock(), self._fault
            if fault is not None and now < fault.until:
                return fault.until - now
            wanted = self._first if fault is None else fault.pause * _GROWTH
            pause = min(max(wanted, min(error.retry_after or 0.0, self._most)), self._most)
            if fault is None:
                fault = _Fault(error, now, now, pause, entry_id)
            self._fault = replace(
                fault, error=error, until=now + pause, pause=pause, entry_id=entry_id
            )
            self._passed_over = entry_id
        metrics.DEPENDENCY_HOLDING.set(1)
        metrics.DEPENDENCY_FAULTS.labels(code=error.code).inc()
        log.error(
            "stream.holding", code=error.code, error=error.detail, pause_seconds=round(pause, 1)
        )
        return pause

    def open(self) -> None:
        """Note that a job was done, and so nothing is at fault any more."""
        if self._fault is None:
            return
        with self._lock:
            fault, self._fault, self._passed_over = self._fault, None, None
        metrics.DEPENDENCY_HOLDING.set(0)
        if fault is not None:
            log.info("stream.released", held_seconds=round(self._clock() - fault.since, 1))

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
        fault = self._fault
        if fault is None:
            return None
        return GateView(
            code=fault.error.code,
            message=fault.error.detail,
            held_seconds=round(self._clock() - fault.since, 1),
            next_try_seconds=round(max(0.0, fault.until - self._clock()), 1),
        )
