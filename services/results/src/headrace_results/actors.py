"""The queue between taking a report in and applying it."""

import threading
import time
from typing import Final

import dramatiq
import structlog
from dramatiq import Broker

from headrace_common.broker import QueueUnavailableError, new_message, send
from headrace_common.contracts import APPLY_REPORT_QUEUE, ActorName, ApplyReport
from headrace_common.telemetry.trace import inside_trace
from headrace_results.applier import ReportApplier
from headrace_results.inbox import Receipt

log = structlog.get_logger()

#: After a failure, so long nothing is sent: webhooks must not wait for a Redis that is away.
_PAUSE_SECONDS: Final = 1.0


class ReportQueue:
    """Sends reports to be applied, best effort: the sweep finds those that were not sent."""

    def __init__(self, broker: Broker) -> None:
        """Send over `broker`."""
        self._broker = broker
        self._lock = threading.Lock()
        self._silent_until = 0.0

    def send(self, receipt: Receipt) -> None:
        """Ask for a report to be applied soon."""
        with self._lock:
            if time.monotonic() < self._silent_until:
                return
        with (
            inside_trace(receipt.trace),
            structlog.contextvars.bound_contextvars(job_id=receipt.job_id),
        ):
            payload = ApplyReport(inbox_id=receipt.inbox_id)
            message = new_message(ActorName.APPLY_REPORT, APPLY_REPORT_QUEUE, payload)
            # Not an argument, which an earlier version would refuse; for logs and spans.
            message.options["job_id"] = receipt.job_id
            try:
                send(self._broker, message)
            except QueueUnavailableError as error:
                with self._lock:
                    self._silent_until = time.monotonic() + _PAUSE_SECONDS
                log.warning("report.not_queued", inbox_id=receipt.inbox_id, error=str(error))


def register_actors(broker: Broker, applier: ReportApplier) -> None:
    """Declare on `broker` what this service does with messages."""

    @dramatiq.actor(broker=broker, actor_name=ActorName.APPLY_REPORT, queue_name=APPLY_REPORT_QUEUE)
    def apply_report(inbox_id: int) -> None:
        applier.apply(inbox_id)
