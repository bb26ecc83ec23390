"""What a handler gets: the request, and its line to the world outside."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from headrace_analysis.outcome import AnalysisOutcome, StopReason
from headrace_common.contracts import AnalysisRequest


class TaskStoppedError(Exception):
    """The task is to end now, without a result. Let it pass."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class AnalysisTask:
    """One attempt at one job.

    Attributes:
        request: the job as the dispatcher sent it.
        attempt: from 1; counts receives, those of servers that died included.
        trace: W3C trace-context fields, to pass on.
    """

    def __init__(
        self,
        request: AnalysisRequest,
        *,
        attempt: int,
        trace: Mapping[str, str],
        time_limit: float,
        on_progress: Callable[["AnalysisTask", float, str | None], None],
    ) -> None:
        """Make the task; its clock starts now.

        Args:
            request: the job.
            attempt: from 1.
            trace: W3C trace-context fields.
            time_limit: seconds.
            on_progress: takes what the handler says of its progress; must not block.
        """
        self.request = request
        self.attempt = attempt
        self.trace = dict(trace)
        self.deadline = time.monotonic() + time_limit
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._reason: StopReason | None = None

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.request.job_id

    @property
    def remaining_seconds(self) -> float:
        """Time that is left of the limit; negative once it is over."""
        return self.deadline - time.monotonic()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the task should end, if it should."""
        if self._reason is None and self.remaining_seconds <= 0:
            self.stop(StopReason.TIME_LIMIT)
        return self._reason

    def check(self) -> None:
        """Call this often (every second or so): it ends a task whose result nobody wants.

        Raises:
            TaskStoppedError: the time limit is over, the lease was lost, the job was cancelled
                or is gone, or the server stops.
        """
        if (reason := self.stop_reason) is not None:
            raise TaskStoppedError(reason)

    def progress(self, percent: float, message: str | None = None) -> None:
        """Tell how far the analysis is. Returns at once, never fails, may be called at will.

        Args:
            percent: 0 to 100, of the analysis.
            message: one line for people.
        """
        self._on_progress(self, min(100.0, max(0.0, percent)), message)

    def stop(self, reason: StopReason) -> None:
        """Ask the task to end; the first reason stands."""
        with self._lock:
            self._reason = self._reason or reason


class SpeechHandler(Protocol):
    """What a team writes: from a task to its result.

    Called on several threads at once. Raises `AnalysisError` where there is no result; any other
    exception counts as retryable. May run twice for a job, so its effects must be repeatable.
    """

    def __call__(self, task: AnalysisTask) -> AnalysisOutcome | Mapping[str, Any]:
        """Analyse; return the outcome, or just the result's JSON object."""
        ...
