"""How an attempt at a task ended, and what follows from it: decisions only, no I/O."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from headrace_common.contracts import ReportError

_MAX_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class AnalysisOutcome:
    """A handler's result.

    Attributes:
        result: JSON values; what `result` of the report carries.
        message: one line for people.
    """

    result: Mapping[str, Any]
    message: str = "The analysis is complete"


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that gave no result."""

    code: str
    message: str
    retryable: bool

    def error(self) -> ReportError:
        """Return the failure as a report carries it."""
        return ReportError(code=self.code, message=self.message)


class StopReason(StrEnum):
    """Why a task was told to stop."""

    LEASE_LOST = "lease_lost"
    TIME_LIMIT = "time_limit"
    SHUTDOWN = "shutdown"
    JOB_GONE = "job_gone"
    #: The job was cancelled, is finished, or was begun anew since: nobody wants the result.
    CANCELLED = "cancelled"


class Settlement(StrEnum):
    """What becomes of the message."""

    #: Finished with: delete it.
    DELETE = "delete"
    #: Give it back, to be tried again after a while.
    RETRY = "retry"
    #: Give it back at once: to another server, or, after the last attempt, to the dead letters.
    HAND_BACK = "hand_back"
    #: It is someone else's by now: do not touch it.
    FORGET = "forget"


class ReportOutcome(StrEnum):
    """How the receiver took a report."""

    DELIVERED = "delivered"
    #: The receiver knows no such job (404, 410).
    GONE = "gone"
    #: The receiver will never take it (another 4xx, or a redirect): somebody must look.
    REFUSED = "refused"
    #: No answer, 408, 429 or 5xx: worth trying again.
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do after an attempt.

    Attributes:
        report: send this as the final word; None for silence.
        settlement: what becomes of the message once the report, if any, is delivered.
        label: how metrics and logs call the end.
    """

    report: AnalysisOutcome | Failure | None
    settlement: Settlement
    label: str


def plan(end: AnalysisOutcome | Failure | StopReason, *, last_attempt: bool) -> Plan:
    """Decide what follows from the end of an attempt.

    Args:
        end: how it ended.
        last_attempt: whether the queue's redrive policy permits no further receive.
    """
    if isinstance(end, AnalysisOutcome):
        return Plan(end, Settlement.DELETE, "completed")
    if isinstance(end, StopReason):
        return _plan_stopped(end, last_attempt=last_attempt)
    if not end.retryable:
        return Plan(end, Settlement.DELETE, "failed")
    if last_attempt:
        return Plan(end, Settlement.HAND_BACK, "exhausted")
    return Plan(None, Settlement.RETRY, "retried")


def _plan_stopped(reason: StopReason, *, last_attempt: bool) -> Plan:
    if reason is StopReason.LEASE_LOST:
        return Plan(None, Settlement.FORGET, reason.value)
    if reason in {StopReason.JOB_GONE, StopReason.CANCELLED}:
        return Plan(None, Settlement.DELETE, reason.value)
    failure = _STOPPED[reason]
    if last_attempt:
        return Plan(failure, Settlement.HAND_BACK, reason.value)
    settlement = Settlement.RETRY if reason is StopReason.TIME_LIMIT else Settlement.HAND_BACK
    return Plan(None, settlement, reason.value)


_STOPPED: Final = {
    StopReason.TIME_LIMIT: Failure(
        "time_limit", "The analysis took longer than the time limit", retryable=True
    ),
    StopReason.SHUTDOWN: Failure(
        "interrupted", "The analysis server stopped during the last attempt", retryable=True
    ),
}


def after_report(planned: Settlement, report: ReportOutcome, *, last_attempt: bool) -> Settlement:
    """Decide what becomes of the message once the receiver has had the final report.

    A report that was refused or never arrived leaves the message to be redelivered and, in the
    end, to the dead letters, from where an operator can replay it once the receiver is well.
    """
    if report is ReportOutcome.DELIVERED:
        return planned
    if report is ReportOutcome.GONE:
        return Settlement.DELETE
    return Settlement.HAND_BACK if last_attempt else Settlement.RETRY


def retry_delay(attempt: int, *, base: float, most: float, jitter: float | None = None) -> float:
    """Return seconds to wait after `attempt`: exponential, with "equal" jitter.

    Half of the wait is certain, the other half random, so that jobs that failed together do not
    come back together: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        attempt: the attempt that failed, from 1.
        base: seconds after the first.
        most: seconds at most.
        jitter: 0 to 1; drawn at random where None.
    """
    full: float = min(most, base * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
    share = random.random() if jitter is None else jitter  # noqa: S311 - spreads load
    return full * (0.5 + 0.5 * share)
