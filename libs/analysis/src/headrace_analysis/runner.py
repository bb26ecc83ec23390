"""One delivery from start to settlement."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from headrace_analysis import metrics
from headrace_analysis.callback import Callback, CallbackNotAllowedError
from headrace_analysis.deliveries import Delivery
from headrace_analysis.errors import AnalysisError
from headrace_analysis.outcome import (
    AnalysisOutcome,
    Failure,
    ReportOutcome,
    Settlement,
    StopReason,
    after_report,
    plan,
    retry_delay,
)
from headrace_analysis.progress import ProgressSender
from headrace_analysis.reporting import OutgoingReport, Reporter, deliver, final_body, report_id
from headrace_analysis.result_store import ResultStore
from headrace_analysis.settings import AnalysisSettings
from headrace_analysis.task import AnalysisTask, SpeechHandler, TaskStoppedError
from headrace_common.contracts import AnalysisRequest, ReportStatus
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.messaging import MessagingSystem, processing
from headrace_common.telemetry.trace import fail_span, note_error

log = structlog.get_logger()

#: Beyond the retries of a report: its last request, and the settlement.
_SETTLING_SECONDS: Final = 60.0

#: Ends that nobody has to look at.
_WELL: Final = frozenset({"completed", StopReason.JOB_GONE.value, StopReason.CANCELLED.value})

_EXHAUSTED: Final = Failure(
    "receives_exhausted", "Every permitted attempt at the analysis was cut short", retryable=True
)
_MALFORMED: Final = Failure(
    "bad_request", "The analysis server cannot understand the job's message", retryable=True
)


@dataclass(frozen=True, slots=True)
class Running:
    """A task under way."""

    delivery: Delivery
    task: AnalysisTask


class TaskRunner:
    """Runs the handler, reports, settles."""

    def __init__(
        self,
        handler: SpeechHandler,
        settings: AnalysisSettings,
        *,
        reporter: Reporter,
        progress: ProgressSender,
        store: ResultStore | None,
    ) -> None:
        """Make the runner.

        Args:
            handler: the analysis.
            settings: limits.
            reporter: the way of the answers.
            progress: takes progress reports.
            store: takes results above REPORT_MAX_BYTES.
        """
        self._handler = handler
        self._settings = settings
        self._reporter = reporter
        self._progress = progress
        self._store = store
        self._running: dict[int, Running] = {}
        self._lock = threading.Lock()
        #: Set when reports must not be repeated any longer, because the process ends.
        self.give_up = threading.Event()

    def running(self) -> list[Running]:
        """Return the tasks under way."""
        with self._lock:
            return list(self._running.values())

    def run(self, delivery: Delivery) -> None:
        """Bring one delivery to its end."""
        job_id = delivery.callback.job_id if delivery.callback else None
        started = time.monotonic()
        system = MessagingSystem.SQS if delivery.transport == "sqs" else MessagingSystem.HTTP
        with processing(
            delivery.trace,
            system,
            delivery.queue,
            message_id=delivery.delivery_id,
            sent_ms=delivery.sent_ms,
            job_id=job_id,
            attempt=delivery.attempt,
        ):
            label = self._safely(delivery)
            if label not in _WELL:
                fail_span(label)
            seconds = time.monotonic() - started
            log.info("analysis.task_ended", outcome=label, seconds=round(seconds, 3))
        metrics.TASKS.labels(delivery.transport, label).inc()
        metrics.TASK_SECONDS.labels(delivery.transport).observe(seconds)

    def _safely(self, delivery: Delivery) -> str:
        try:
            return self._run(delivery)
        except Exception:
            # What reporting or the result store raised must not leave the message held.
            log.exception("analysis.runner_failed")
            self._settle(delivery, Settlement.RETRY)
            return "runner_failed"

    def _run(self, delivery: Delivery) -> str:
        if delivery.request is None or delivery.callback is None:
            return self._reject(delivery)
        try:
            self._reporter.check(delivery.callback)
        except CallbackNotAllowedError as error:
            # The job cannot be answered, so it is not begun; the dead letters keep it until
            # CALLBACK_ALLOWED_HOSTS is mended.
            log.error("analysis.callback_not_allowed", reason=error.detail)  # noqa: TRY400
            self._settle(delivery, Settlement.RETRY)
            return error.code
        return self._attempt(delivery, delivery.request, delivery.callback)

    def _attempt(self, delivery: Delivery, request: AnalysisRequest, callback: Callback) -> str:
        task = AnalysisTask(
            request,
            attempt=delivery.attempt,
            trace=current_trace(),
            time_limit=self._settings.analysis_time_limit_seconds,
            on_progress=self._progress.offer,
        )
        end = self._guarded(delivery, task)
        planned = plan(end, last_attempt=self._is_last(delivery))
        settlement = planned.settlement
        if planned.report is not None:
            delivery.watch(
                lambda: None, seconds=self._settings.report_retry_seconds + _SETTLING_SECONDS
            )
            answer = self._report(delivery, callback, planned.report)
            settlement = after_report(settlement, answer, last_attempt=self._is_last(delivery))
        self._settle(delivery, settlement)
        return planned.label

    def _guarded(
        self, delivery: Delivery, task: AnalysisTask
    ) -> AnalysisOutcome | Failure | StopReason:
        if delivery.attempt > self._settings.analysis_max_receives:
            return _EXHAUSTED
        key = id(task)
        with self._lock:
            self._running[key] = Running(delivery, task)
        self._progress.follow(task, delivery.delivery_id)
        delivery.watch(
            lambda: task.stop(StopReason.LEASE_LOST),
            seconds=self._settings.analysis_time_limit_seconds,
        )
        try:
            self._progress.ask(task, delivery.delivery_id)
            return self._analyse(task)
        finally:
            self._progress.forget(task)
            with self._lock:
                del self._running[key]

    def _analyse(self, task: AnalysisTask) -> AnalysisOutcome | Failure | StopReason:
        try:
            task.check()
            answer = self._handler(task)
        except TaskStoppedError as stopped:
            log.warning("analysis.task_stopped", reason=stopped.reason.value)
            return stopped.reason
        except AnalysisError as error:
            note_error(error)
            log.warning("analysis.failed", code=error.code, retryable=error.retryable)
            return Failure(error.code, error.message, error.retryable)
        except Exception as error:
            # A handler may raise anything. What it says stays in the log: it may hold secrets.
            note_error(error)
            log.exception("analysis.handler_failed")
            kind = type(error).__name__
            return Failure(
                "internal_error", f"The analysis failed unexpectedly ({kind})", retryable=True
            )
        return _outcome(answer)

    def _report(
        self, delivery: Delivery, callback: Callback, end: AnalysisOutcome | Failure
    ) -> ReportOutcome:
        kind, body = self._final_report(callback.job_id, end)
        return self._deliver(delivery, callback, kind, body)

    def _final_report(
        self, job_id: str, end: AnalysisOutcome | Failure
    ) -> tuple[ReportStatus, bytes]:
        """Return the kind and the body of the final report, small enough to be sent."""
        if isinstance(end, Failure):
            return ReportStatus.FAILED, final_body(job_id, end)
        try:
            body = final_body(job_id, end)
        except ValueError:
            log.exception("analysis.bad_result")
            failure = Failure("bad_result", "The analysis gave no JSON", retryable=False)
            return ReportStatus.FAILED, final_body(job_id, failure)
        if len(body) <= self._settings.report_max_bytes:
            return ReportStatus.COMPLETED, body
        if self._store is None:
            failure = Failure(
                "result_too_large", f"The result has {len(body)} bytes", retryable=False
            )
            return ReportStatus.FAILED, final_body(job_id, failure)
        url = self._store.put(job_id, "report.json", body, "application/json")
        link = AnalysisOutcome({"result_url": url, "result_bytes": len(body)}, end.message)
        return ReportStatus.COMPLETED, final_body(job_id, link)

    def _deliver(
        self,
        delivery: Delivery,
        callback: Callback,
        kind: ReportStatus,
        body: bytes,
        *,
        once: bool = False,
    ) -> ReportOutcome:
        report = OutgoingReport(
            callback=callback,
            kind=kind,
            message_id=report_id(
                callback.job_id,
                delivery=delivery.delivery_id,
                kind=kind.value,
                attempt=0
                if once
                else min(delivery.attempt, self._settings.analysis_max_receives + 1),
            ),
            body=body,
            trace=current_trace(),
        )
        return deliver(
            self._reporter,
            report,
            seconds=self._settings.report_retry_seconds,
            give_up=self.give_up,
        )

    def _reject(self, delivery: Delivery) -> str:
        """Leave a malformed message to the dead letters, and tell whom it names, if it does."""
        log.error("analysis.message_malformed", message_id=delivery.delivery_id)
        callback = delivery.callback
        if callback is not None:
            try:
                self._reporter.check(callback)
            except CallbackNotAllowedError as error:
                log.error("analysis.callback_not_allowed", reason=error.detail)  # noqa: TRY400
            else:
                body = final_body(callback.job_id, _MALFORMED)
                # The same id at every receive: the receiver takes it as one report.
                self._deliver(delivery, callback, ReportStatus.FAILED, body, once=True)
        self._settle(delivery, Settlement.RETRY)
        return "malformed"

    def _is_last(self, delivery: Delivery) -> bool:
        return delivery.attempt >= self._settings.analysis_max_receives

    def _settle(self, delivery: Delivery, settlement: Settlement) -> None:
        if settlement is Settlement.RETRY and self._is_last(delivery):
            settlement = Settlement.HAND_BACK
        if delivery.attempt > self._settings.analysis_max_receives:
            # The queue should have moved it to the dead letters by now. Given back at once it would
            # come round many times a second.
            log.error("analysis.redrive_policy_missing", receives=delivery.attempt)
            if settlement is Settlement.HAND_BACK:
                delivery.settle(Settlement.RETRY, self._settings.analysis_retry_max_seconds)
                return
        delay = retry_delay(
            delivery.attempt,
            base=self._settings.analysis_retry_base_seconds,
            most=self._settings.analysis_retry_max_seconds,
        )
        delivery.settle(settlement, delay)


def _outcome(answer: object) -> AnalysisOutcome | Failure:
    if isinstance(answer, AnalysisOutcome):
        return answer
    if isinstance(answer, Mapping):
        return AnalysisOutcome(answer)
    return Failure("bad_result", "The analysis gave no JSON object", retryable=False)
