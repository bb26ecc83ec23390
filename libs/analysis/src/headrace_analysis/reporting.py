"""Saying how a job is: what a report consists of, and sending it until it is taken."""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
import tenacity

from headrace_analysis import metrics
from headrace_analysis.callback import Callback
from headrace_analysis.outcome import AnalysisOutcome, Failure, ReportOutcome
from headrace_common.contracts import AnalysisReport, ReportStatus

log = structlog.get_logger()

_FIRST_WAIT_SECONDS: Final = 0.5
_LONGEST_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class OutgoingReport:
    """A report ready to be sent, the same bytes and id at every try.

    Attributes:
        callback: whom to tell about which job.
        kind: processing, completed or failed.
        message_id: the webhook's id, by which the receiver knows a repeat.
        body: JSON of an AnalysisReport.
        trace: W3C trace-context fields.
    """

    callback: Callback
    kind: ReportStatus
    message_id: str
    body: bytes
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """How the receiver took a report, and what it said.

    Attributes:
        stop: nobody wants the work on the job any more.
        retry_after: seconds that the receiver asked to wait.
    """

    outcome: ReportOutcome
    stop: bool = False
    retry_after: float | None = None


class Reporter(Protocol):
    """A way to the receiver."""

    @property
    def hears_back(self) -> bool:
        """Whether an answer can say that a task is to stop."""
        ...

    @property
    def away_seconds(self) -> float:
        """Seconds for which no receiver needs to be tried; 0 while one may answer."""
        ...

    def send(self, report: OutgoingReport) -> ReportAnswer:
        """Try once to deliver; raises nothing that a network or a receiver can cause."""
        ...

    def check(self, callback: Callback) -> None:
        """Raise CallbackNotAllowedError where a report for `callback` could never be sent."""
        ...

    def close(self) -> None:
        """Give up connections."""
        ...


def report_id(job_id: str, *, delivery: str, kind: str, attempt: int) -> str:
    """Return the id of a report: the same for the same report, however often it is made.

    Args:
        job_id: the job.
        delivery: id of the message that brought it; another run of the job has another.
        kind: of the report, with a number where there are several.
        attempt: of the task.
    """
    text = "\n".join((job_id, delivery, kind, str(attempt)))
    return f"msg_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def final_body(job_id: str, end: AnalysisOutcome | Failure) -> bytes:
    """Return the JSON of the report on a task's end.

    Raises:
        ValueError: the result is not made of JSON values (NaN and infinity are not).
    """
    if isinstance(end, Failure):
        report = AnalysisReport(
            job_id=job_id, status=ReportStatus.FAILED, message=end.message, error=end.error()
        )
    else:
        report = AnalysisReport(
            job_id=job_id,
            status=ReportStatus.COMPLETED,
            progress=100,
            message=end.message,
            result=dict(end.result),
        )
        json.dumps(report.result, allow_nan=False)  # Pydantic would write null for NaN
    return _body(report)


def progress_body(job_id: str, percent: float, message: str | None) -> bytes:
    """Return the JSON of a progress report."""
    return _body(
        AnalysisReport(
            job_id=job_id, status=ReportStatus.PROCESSING, progress=percent, message=message
        )
    )


def heartbeat_body(job_id: str) -> bytes:
    """Return the JSON of a sign of life, to which the answer says whether to go on."""
    return _body(AnalysisReport(job_id=job_id, status=ReportStatus.PROCESSING, heartbeat=True))


def _body(report: AnalysisReport) -> bytes:
    report.timestamp = datetime.now(UTC)
    return report.model_dump_json(exclude_none=True).encode()


def deliver(
    reporter: Reporter, report: OutgoingReport, *, seconds: float, give_up: threading.Event
) -> ReportOutcome:
    """Send a report until it is taken or refused, with exponential back-off and jitter.

    A receiver that says when to come again is waited for.

    Args:
        reporter: the way.
        report: the report.
        seconds: time after which to give up.
        give_up: ends it early (the server stops).
    """

    def once() -> ReportAnswer:
        answer = reporter.send(report)
        count_report(report, answer.outcome)
        return answer

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda answer: answer.outcome is ReportOutcome.UNREACHABLE),
        wait=_wait,
        stop=tenacity.stop_any(
            tenacity.stop_before_delay(seconds), tenacity.stop_when_event_set(give_up)
        ),
        sleep=tenacity.sleep_using_event(give_up),
        retry_error_callback=_last_answer,
    )
    return retrying(once).outcome


_BACKING_OFF: Final = tenacity.wait_exponential(
    multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS
) + tenacity.wait_random(0, _FIRST_WAIT_SECONDS)


def _wait(state: tenacity.RetryCallState) -> float:
    return max(_BACKING_OFF(state), _last_answer(state).retry_after or 0.0)


def _last_answer(state: tenacity.RetryCallState) -> ReportAnswer:
    answer: ReportAnswer = (
        state.outcome.result() if state.outcome else ReportAnswer(ReportOutcome.UNREACHABLE)
    )
    return answer


def count_report(
    report: OutgoingReport, outcome: ReportOutcome, *, heartbeat: bool = False
) -> None:
    """Log and count one try."""
    kind = "heartbeat" if heartbeat else report.kind.value
    metrics.REPORTS.labels(kind, outcome.value).inc()
    delivered = log.debug if heartbeat else log.info
    write = delivered if outcome is ReportOutcome.DELIVERED else log.warning
    write(
        "analysis.report_sent", kind=kind, outcome=outcome.value,
        host=report.callback.host, message_id=report.message_id,
    )  # fmt: skip
