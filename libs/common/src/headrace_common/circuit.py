"""Circuit breakers: whoever depends on a server that is at fault waits, instead of trying on.

One breaker a dependency and process. It opens after some failures in a row; after a pause one
call may try; when that succeeds it closes, when it fails the pause doubles. Callers that are
told to wait put their work aside without counting it as a failure.

The pattern is M. Nygard's (Release It!, chapter 5). Not pybreaker: that holds a lock while it
calls, so that one slow call would hold up all others, and knows neither growing pauses nor
Retry-After.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog
from prometheus_client import Counter, Gauge
from pydantic import BaseModel, Field

from headrace_common.errors import UnavailableError
from headrace_common.telemetry.metrics import from_zero

log = structlog.get_logger()

#: Each further pause is so many times the last.
_GROWTH: Final = 2.0
#: A call that was let through to try and never said how it went is forgotten after so long.
_TRIAL_SECONDS: Final = 60.0
#: Work that waits tries as soon as it may. Where nothing has for so long, nothing waits, and
#: nobody knows whether the dependency is at fault yet. Longer than the longest try.
_UNTRIED_SECONDS: Final = 300.0

_OPEN: Final = Gauge(
    "headrace_circuit_open",
    "1 while a dependency is at fault and work waits for it; 0.5 while one call tries; 0 again "
    "once nothing has tried for five minutes",
    ["dependency"],
)
_OPENED: Final = Counter(
    "headrace_circuit_opened_total", "Times that a dependency was found at fault", ["dependency"]
)


class CircuitState(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"  #: everything
    OPEN = "open"  #: nothing
    HALF_OPEN = "half_open"  #: one call, which decides


class CircuitView(BaseModel):
    """A breaker, for people and for readiness."""

    dependency: str = Field(examples=["sqs"])
    state: CircuitState
    failures: int = Field(description="In a row, up to now")
    reason: str | None = Field(description="What the last failure said")
    open_seconds: float = Field(description="Since it opened; 0 while closed")
    next_try_seconds: float = Field(description="Until one call may try")


class CircuitOpenError(UnavailableError):
    """A server that this needs is known to be at fault; nothing was tried."""

    code = "dependency_at_fault"


@dataclass(frozen=True, kw_only=True)
class CircuitPolicy:
    """When a breaker opens, and for how long.

    Attributes:
        failures: in a row that open it. Above the tries of one job, so that a single job at
            fault does not hold up the others.
        first_seconds: of the first pause.
        most_seconds: of the longest.
    """

    failures: int = 8
    first_seconds: float = 1.0
    most_seconds: float = 30.0


class CircuitBreaker:
    """Closed, open or half open. Safe to use from any thread."""

    def __init__(
        self,
        dependency: str,
        policy: CircuitPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it, closed.

        Args:
            dependency: name of the server, for metrics and people.
            policy: when it opens.
            clock: monotonic seconds.
        """
        self.dependency = dependency
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._reason: str | None = None
        self._opened_at: float | None = None
        self._retry_at = 0.0
        self._pause = 0.0
        self._trial_since: float | None = None
        _OPEN.labels(dependency=dependency).set_function(self._shown)
        from_zero(_OPENED, (dependency,))

    @property
    def state(self) -> CircuitState:
        """What it lets through now."""
        with self._lock:
            return self._state()

    @property
    def seconds_left(self) -> float:
        """Seconds until a call may try; 0 when one may."""
        with self._lock:
            if self._opened_at is None:
                return 0.0
            now = self._clock()
            if self._is_trying(now):
                return max(self._policy.first_seconds, 0.1)
            return max(self._retry_at - now, 0.0)

    def allow(self) -> bool:
        """Ask whether a call may be made; who is let through says how it went, or `leave`s."""
        with self._lock:
            if self._opened_at is None:
                return True
            now = self._clock()
            if now < self._retry_at or self._is_trying(now):
                return False
            self._trial_since = now
            return True

    def check(self) -> None:
        """Ask like `allow`.

        Raises:
            CircuitOpenError: no call may be made.
        """
        if not self.allow():
            raise self._refusal()

    def check_waiting(self) -> None:
        """Ask before work that leads to calls later; this lets no call through by itself.

        Raises:
            CircuitOpenError: calls would have to wait now.
        """
        if self.seconds_left > 0:
            raise self._refusal()

    def succeeded(self) -> None:
        """Note that the dependency answered as it should."""
        with self._lock:
            was_open, self._opened_at = self._opened_at, None
            self._failures, self._reason, self._trial_since = 0, None, None
            now = self._clock()
        if was_open is not None:
            log.info(
                "circuit.closed", dependency=self.dependency, open_seconds=round(now - was_open, 1)
            )

    def failed(self, reason: str, *, retry_after: float | None = None) -> None:
        """Note that the dependency is at fault.

        Calls that were under way when it opened do not make the pause longer.

        Args:
            reason: what it said, without secrets.
            retry_after: seconds that it asked to wait.
        """
        with self._lock:
            self._failures += 1
            self._reason = reason
            now = self._clock()
            if self._opened_at is None:
                if self._failures < self._policy.failures and retry_after is None:
                    return
                self._opened_at, self._pause = now, self._policy.first_seconds
                _OPENED.labels(dependency=self.dependency).inc()
            elif self._trial_since is not None:
                self._pause = min(self._pause * _GROWTH, self._policy.most_seconds)
            else:
                return
            self._trial_since = None
            pause = min(max(self._pause, retry_after or 0.0), self._policy.most_seconds)
            self._retry_at = now + pause
        log.error(
            "circuit.open",
            dependency=self.dependency,
            reason=reason[:500],
            pause_seconds=round(pause, 1),
        )

    def leave(self) -> None:
        """Note that a call which was let through was not made, or told nothing."""
        with self._lock:
            self._trial_since = None

    def view(self) -> CircuitView:
        """Describe it."""
        with self._lock:
            now = self._clock()
            opened_at = self._opened_at
            return CircuitView(
                dependency=self.dependency,
                state=self._state(),
                failures=self._failures,
                reason=self._reason,
                open_seconds=0.0 if opened_at is None else round(now - opened_at, 1),
                next_try_seconds=0.0
                if opened_at is None
                else round(max(self._retry_at - now, 0.0), 1),
            )

    def _refusal(self) -> CircuitOpenError:
        return CircuitOpenError(
            f"{self.dependency} is at fault; trying again soon",
            retry_after=max(self.seconds_left, 1.0),
        )

    def _state(self) -> CircuitState:
        if self._opened_at is None:
            return CircuitState.CLOSED
        return CircuitState.HALF_OPEN if self._is_trying(self._clock()) else CircuitState.OPEN

    def _shown(self) -> float:
        """Return what the metric says."""
        with self._lock:
            now = self._clock()
            if self._opened_at is None:
                return 0.0
            if self._is_trying(now):
                return 0.5
            wanted_at = max(self._retry_at, self._trial_since or 0.0)
            return 1.0 if now < wanted_at + _UNTRIED_SECONDS else 0.0

    def _is_trying(self, now: float) -> bool:
        return self._trial_since is not None and now - self._trial_since < _TRIAL_SECONDS
