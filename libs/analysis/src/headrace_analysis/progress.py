"""Progress and signs of life: sent beside the analysis, the latest only, never in its way.

Every answer may say that the job is not wanted any more; that is how a task hears of it.
"""

import threading
import time
from dataclasses import dataclass

import structlog

from headrace_analysis import metrics
from headrace_analysis.callback import Callback
from headrace_analysis.outcome import ReportOutcome, StopReason
from headrace_analysis.reporting import (
    OutgoingReport,
    Reporter,
    count_report,
    heartbeat_body,
    progress_body,
    report_id,
)
from headrace_analysis.task import AnalysisTask
from headrace_common.contracts import ReportStatus
from headrace_common.telemetry.trace import inside_trace

log = structlog.get_logger()


@dataclass(slots=True)
class _Follow:
    """A task under way.

    Attributes:
        pending: per cent and text that wait to be sent.
        not_before: monotonic seconds until which they wait.
        heartbeat_at: monotonic seconds at which a sign of life is due.
        sent: reports so far.
    """

    delivery_id: str
    heartbeat_at: float
    pending: tuple[float, str | None] | None = None
    not_before: float = 0.0
    sent: int = 0

    def due_at(self) -> float:
        """Return the monotonic seconds at which something is to be sent."""
        if self.pending is None:
            return self.heartbeat_at
        return min(self.not_before, self.heartbeat_at)


@dataclass(frozen=True, slots=True)
class _Report:
    """What is to be sent; without `pending` a sign of life."""

    task: AnalysisTask
    delivery_id: str
    number: int
    pending: tuple[float, str | None] | None


class ProgressSender:
    """Sends on a thread of its own; a slow receiver costs reports, not time."""

    def __init__(
        self, reporter: Reporter, *, interval_seconds: float, heartbeat_seconds: float
    ) -> None:
        """Make the sender.

        Args:
            reporter: the way.
            interval_seconds: least time between two reports of a task.
            heartbeat_seconds: longest time without one; 0: no matter.
        """
        self._reporter = reporter
        self._interval = interval_seconds
        heartbeats = heartbeat_seconds > 0 and reporter.hears_back
        self._heartbeat = heartbeat_seconds if heartbeats else float("inf")
        self._tasks: dict[AnalysisTask, _Follow] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="progress-sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def follow(self, task: AnalysisTask, delivery_id: str) -> None:
        """Take reports of this task from now on."""
        with self._changed:
            self._tasks[task] = _Follow(delivery_id, time.monotonic() + self._heartbeat)
            self._changed.notify_all()

    def forget(self, task: AnalysisTask) -> None:
        """Take no more, and drop what is not sent: the final report says more."""
        with self._changed:
            self._tasks.pop(task, None)

    def offer(self, task: AnalysisTask, percent: float, message: str | None) -> None:
        """Put a report in place of the one that is waiting. Returns at once."""
        with self._changed:
            follow = self._tasks.get(task)
            if follow is not None:
                follow.pending = (percent, message)
                self._changed.notify_all()

    def ask(self, task: AnalysisTask, delivery_id: str) -> None:
        """Ask, before a task begins, whether it is still wanted; stop it if it is not.

        Waits for the answer. Where none comes the task begins all the same.
        """
        if self._heartbeat < float("inf"):
            self._send(_Report(task, delivery_id, 0, None))

    def _run(self) -> None:
        while (report := self._next()) is not None:
            try:
                self._send(report)
            except Exception:
                # Progress is a courtesy: whatever happens, the next report gets its chance.
                log.exception("analysis.progress_failed")

    def _next(self) -> _Report | None:
        """Wait for a report that may be sent, and take it; None at the stop."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                # The longest due first: with a slow receiver too each task has its turn.
                soonest = min(self._tasks.items(), key=lambda item: item[1].due_at(), default=None)
                due_at = float("inf") if soonest is None else soonest[1].due_at()
                if soonest is not None and due_at <= now:
                    return self._take(*soonest, now)
                self._changed.wait(None if due_at == float("inf") else due_at - now)
        return None

    def _take(self, task: AnalysisTask, follow: _Follow, now: float) -> _Report:
        pending, follow.pending = follow.pending, None
        follow.not_before = now + self._interval
        follow.heartbeat_at = now + self._heartbeat
        follow.sent += 1
        return _Report(task, follow.delivery_id, follow.sent, pending)

    def _send(self, told: _Report) -> None:
        task, heartbeat = told.task, told.pending is None
        with (
            inside_trace(task.trace),
            structlog.contextvars.bound_contextvars(job_id=task.job_id),
        ):
            report = OutgoingReport(
                callback=Callback(task.job_id, task.request.callback_url),
                kind=ReportStatus.PROCESSING,
                message_id=report_id(
                    task.job_id,
                    delivery=told.delivery_id,
                    kind=f"{'heartbeat' if heartbeat else 'processing'}:{told.number}",
                    attempt=task.attempt,
                ),
                body=heartbeat_body(task.job_id)
                if told.pending is None
                else progress_body(task.job_id, *told.pending),
                trace=task.trace,
            )
            answer = self._reporter.send(report)
            count_report(report, answer.outcome, heartbeat=heartbeat)
            if answer.outcome is ReportOutcome.GONE:
                task.stop(StopReason.JOB_GONE)
            elif answer.stop:
                metrics.STOPPED.inc()
                log.info("analysis.told_to_stop")
                task.stop(StopReason.CANCELLED)
