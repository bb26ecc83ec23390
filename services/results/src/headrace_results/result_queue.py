"""The result queue: reports that come over SQS instead of a webhook (A10).

A message is deleted after its report is durable. One that is no report, or of no known job,
is left: SQS moves it to the dead letters after its receives are used up.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import JsonValue
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from headrace_common.db import Database
from headrace_common.errors import HeadraceError
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.messaging import MessagingSystem, processing, queue_of
from headrace_results import inbox
from headrace_results.actors import ReportQueue
from headrace_results.inbox import NewReport, Receipt, Source
from headrace_results.metrics import REPORTS_RECEIVED, REPORTS_REFUSED
from headrace_results.reports import job_id_of, read_report

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = structlog.get_logger()

_TRACE_FIELDS: Final = ("traceparent", "tracestate")


class ResultQueueConsumer:
    """Takes batches of reports from SQS into the inbox."""

    def __init__(
        self,
        client: "SQSClient",
        database: Database,
        queue: ReportQueue,
        *,
        queue_url: str,
        wait_seconds: int,
    ) -> None:
        """Make it.

        Args:
            client: of SQS.
            database: where the inbox is.
            queue: told of every report that is new.
            queue_url: SQS_RESULT_QUEUE_URL.
            wait_seconds: of one long poll.
        """
        self._client = client
        self._database = database
        self._queue = queue
        self._queue_url = queue_url
        self._wait_seconds = wait_seconds

    def step(self) -> float:
        """Wait for messages and take one batch of them in; then at once for the next."""
        answer = self._client.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=SQS_MAX_BATCH_ENTRIES,
            WaitTimeSeconds=self._wait_seconds,
            MessageAttributeNames=list(_TRACE_FIELDS),
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        if messages := answer.get("Messages", []):
            self._take_in(messages)
        return 0.0

    def _take_in(self, messages: "list[MessageTypeDef]") -> None:
        readable = [(message, new) for message in messages if (new := _read(message)) is not None]
        # Two replicas that hold the same reports lock their rows in the same order.
        readable.sort(key=lambda pair: pair[1].dedup_key)
        kept: list[tuple[MessageTypeDef, Receipt]] = []
        # Nobody can be answered over a queue, so that a sign of life on it is only done with.
        done = [message for message, new in readable if new.heartbeat]
        with self._database.begin() as session:
            for message, new in readable:
                if not new.heartbeat and (receipt := self._keep(session, message, new)):
                    kept.append((message, receipt))
        for _, receipt in kept:
            REPORTS_RECEIVED.labels(
                source=Source.SQS, duplicate=str(receipt.duplicate).lower()
            ).inc()
            if not receipt.duplicate:
                self._queue.send(receipt)
        done += [message for message, _ in kept]
        self._delete(done)
        log.info("result_queue.taken_in", reports=len(kept), left=len(messages) - len(done))

    def _keep(self, session: Session, message: "MessageTypeDef", new: NewReport) -> Receipt | None:
        if not new.trace:  # it belongs to the job's own
            return _keep(session, message, new)
        told = message.get("Attributes", {})
        with processing(
            new.trace,
            MessagingSystem.SQS,
            queue_of(self._queue_url),
            message_id=message.get("MessageId"),
            sent_ms=int(told["SentTimestamp"]) if "SentTimestamp" in told else None,
            job_id=new.job_id,
            attempt=int(told.get("ApproximateReceiveCount", "1")),
        ):
            return _keep(session, message, replace(new, trace=current_trace()))

    def _delete(self, messages: "list[MessageTypeDef]") -> None:
        if not messages:
            return
        answer = self._client.delete_message_batch(
            QueueUrl=self._queue_url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ],
        )
        if failed := answer.get("Failed"):
            # They come again, and are recognised by their content.
            log.warning(
                "result_queue.not_deleted", count=len(failed), reason=failed[0].get("Message")
            )


def _read(message: "MessageTypeDef") -> NewReport | None:
    try:
        received = read_report(message["Body"].encode())
        job_id = job_id_of(received.report, None)
    except HeadraceError as error:
        _leave(message, error)
        return None
    return NewReport(
        job_id=job_id,
        dedup_key=inbox.content_key(job_id, received.payload, run=received.report.job_run),
        source=Source.SQS,
        payload=received.payload,
        run=received.report.job_run,
        trace=_trace_of(message),
        heartbeat=received.report.is_heartbeat,
    )


def _keep(session: Session, message: "MessageTypeDef", new: NewReport) -> Receipt | None:
    """Keep one report; what is wrong with it must not undo the rest of the batch."""
    try:
        with session.begin_nested():
            return inbox.keep(session, new)
    except (HeadraceError, DataError) as error:
        _leave(message, error)
        return None


def _leave(message: "MessageTypeDef", error: HeadraceError | DataError) -> None:
    reason = error.code if isinstance(error, HeadraceError) else "unstorable"
    detail = error.detail if isinstance(error, HeadraceError) else type(error).__name__
    REPORTS_REFUSED.labels(source=Source.SQS, reason=reason).inc()
    log.warning("result_queue.message_left", sqs_message_id=message.get("MessageId"), reason=detail)


def _trace_of(message: "MessageTypeDef") -> dict[str, str]:
    attributes = message.get("MessageAttributes", {})
    values: dict[str, JsonValue] = {
        name: attributes[name].get("StringValue") for name in _TRACE_FIELDS if name in attributes
    }
    return {name: value for name, value in values.items() if isinstance(value, str)}
