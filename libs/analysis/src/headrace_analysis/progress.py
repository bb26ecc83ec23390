"""Progress reports: sent beside the analysis, only the latest, never often, never in its way."""

import threading
import time
from dataclasses import dataclass

import structlog

from headrace_analysis.callback import Callback
from headrace_analysis.outcome import ReportOutcome, StopReason
from headrace_analysis.reporting import (
    OutgoingReport,
    Reporter,
    count_report,
    progress_body,
    report_id,
)
from headrace_analysis.task import AnalysisTask
from headrace_common.contracts import ReportStatus
from headrace_common.telemetry import continue_trace

log = structlog.get_logger()


@dataclass(slots=True)
class _Follow:
    delivery_id: str
    pending: tuple[float, str | None] | None = None
    not_before: float = 0.0
    sent: int = 0


class ProgressSender:
    """Sends progress on a thread of its own; a slow receiver costs reports, not time."""

    def __init__(self, reporter: Reporter, *, interval_seconds: float) -> None:
        """Make the sender.

        Args:
            reporter: the way.
            interval_seconds: least time between two reports of a task.
        """
        self._reporter = reporter
        self._interval = interval_seconds
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
            self._tasks[task] = _Follow(delivery_id)

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

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._send(*job)
            except Exception:
                # Progress is a courtesy: whatever happens, the next report gets its chance.
                log.exception("analysis.progress_failed")

    def _next(self) -> tuple[AnalysisTask, _Follow, tuple[float, str | None]] | None:
        """Wait for a report that may be sent, and take it; None at the stop."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                waiting = [(t, f) for t, f in self._tasks.items() if f.pending is not None]
                for task, follow in waiting:
                    if follow.pending is not None and follow.not_before <= now:
                        pending, follow.pending = follow.pending, None
                        follow.not_before = now + self._interval
                        follow.sent += 1
                        return task, follow, pending
                soonest = min((follow.not_before for _, follow in waiting), default=None)
                self._changed.wait(None if soonest is None else soonest - now)
        return None

    def _send(self, task: AnalysisTask, follow: _Follow, pending: tuple[float, str | None]) -> None:
        with continue_trace(task.trace, "report progress", job_id=task.job_id):
            report = OutgoingReport(
                callback=Callback(task.job_id, task.request.callback_url),
                kind=ReportStatus.PROCESSING,
                message_id=report_id(
                    task.job_id,
                    delivery=follow.delivery_id,
                    kind=f"processing:{follow.sent}",
                    attempt=task.attempt,
                ),
                body=progress_body(task.job_id, *pending),
                trace=task.trace,
            )
            outcome = self._reporter.send(report)
            count_report(report, outcome)
            if outcome is ReportOutcome.GONE:
                task.stop(StopReason.JOB_GONE)
