"""Jobs from SQS: receiving in strict order of lanes, and settling what was received."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from headrace_analysis import metrics
from headrace_analysis.callback import Callback
from headrace_analysis.lease import Lease, LeaseKeeper
from headrace_analysis.outcome import Settlement
from headrace_common.contracts import AnalysisRequest
from headrace_common.settings import SQS_MAX_VISIBILITY_SECONDS
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES
from headrace_common.telemetry.messaging import queue_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = structlog.get_logger()

#: Ids of messages that were finished here, to recognise one that SQS delivers again.
_FINISHED_KEPT: Final = 1_000
_TRACE_FIELDS: Final = ("traceparent", "tracestate")


@dataclass(frozen=True, slots=True)
class LaneQueue:
    """One queue to poll, and what metrics call it."""

    lane: str
    url: str


class SqsDelivery:
    """One received message."""

    transport = "sqs"

    def __init__(self, source: "SqsSource", message: "MessageTypeDef", queue_url: str) -> None:
        """Read the message; a malformed one has no `request`."""
        self._source = source
        self.delivery_id = message["MessageId"]
        self.queue = queue_of(queue_url)
        told = message.get("Attributes", {})
        self.attempt = int(told.get("ApproximateReceiveCount", "1"))
        self.sent_ms = int(told["SentTimestamp"]) if "SentTimestamp" in told else None
        self.trace: Mapping[str, str] = _trace(message)
        self.request, self.callback = parse_body(message.get("Body", ""))
        now = time.monotonic()
        self.lease = Lease(
            queue_url=queue_url,
            message_id=self.delivery_id,
            receipt=message["ReceiptHandle"],
            until=now + source.visibility_seconds,
            renew_until=float("inf"),
            on_lost=lambda: None,
        )

    def watch(self, on_lost: Callable[[], None], *, seconds: float) -> None:
        """Renew the message's visibility for up to `seconds` more."""
        self.lease.on_lost = on_lost
        self.lease.renew_until = time.monotonic() + seconds

    def settle(self, settlement: Settlement, delay: float) -> None:
        """Delete the message, give it back, or leave it alone."""
        self._source.settle(self, settlement, delay)


def parse_body(body: str) -> tuple[AnalysisRequest | None, Callback | None]:
    """Read a message's body.

    Returns:
        The request, or None where the body is not one; and whom to tell, where it says.
    """
    try:
        request = AnalysisRequest.model_validate_json(body)
    except ValidationError:
        return None, _callback_of_malformed(body)
    return request, Callback(request.job_id, request.callback_url)


def _callback_of_malformed(body: str) -> Callback | None:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    job_id, url = fields.get("job_id"), fields.get("callback_url") or fields.get("webhook_url")
    if not (isinstance(job_id, str) and isinstance(url, str) and job_id):
        return None
    return Callback(job_id, url)


def _trace(message: "MessageTypeDef") -> dict[str, str]:
    attributes = message.get("MessageAttributes", {})
    given = {name: attributes[name] for name in _TRACE_FIELDS if name in attributes}
    return {
        name: str(value["StringValue"]) for name, value in given.items() if "StringValue" in value
    }


class SqsSource:
    """The queues, in the order in which they are preferred."""

    def __init__(
        self,
        client: "SQSClient",
        keeper: LeaseKeeper,
        queues: Sequence[LaneQueue],
        *,
        visibility_seconds: int,
        wait_seconds: int,
        lane_wait_seconds: int,
    ) -> None:
        """Make the source.

        Args:
            client: boto3's SQS client.
            keeper: holds every message from its receipt to its settlement.
            queues: most preferred first, without repeats.
            visibility_seconds: how long a message stays ours without renewal.
            wait_seconds: long poll of a single queue.
            lane_wait_seconds: poll of each of several queues while all are empty.
        """
        self._client = client
        self._keeper = keeper
        self._queues = tuple(queues)
        self.visibility_seconds = visibility_seconds
        self._wait = wait_seconds if len(self._queues) == 1 else lane_wait_seconds
        self._idle = True
        self._finished: OrderedDict[str, None] = OrderedDict()

    def receive(self, free: int) -> list[SqsDelivery]:
        """Receive up to `free` messages of the most preferred queue that has any.

        While there is work the queues are asked without waiting, so that a full low lane does not
        pay for the empty lanes above it; once all are empty each is waited on in turn.

        Raises:
            ClientError: SQS refused.
            BotoCoreError: SQS cannot be reached.
        """
        wait = self._wait if self._idle or len(self._queues) == 1 else 0
        for queue in self._queues:
            if deliveries := self._receive_from(queue, free, wait):
                self._idle = False
                return deliveries
        self._idle = True
        return []

    def _receive_from(self, queue: LaneQueue, free: int, wait: int) -> list[SqsDelivery]:
        answer = self._client.receive_message(
            QueueUrl=queue.url,
            MaxNumberOfMessages=min(free, SQS_MAX_BATCH_ENTRIES),
            WaitTimeSeconds=wait,
            VisibilityTimeout=self.visibility_seconds,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        messages = answer.get("Messages", [])
        metrics.RECEIVED.labels(queue.lane).inc(len(messages))
        deliveries = (SqsDelivery(self, message, queue.url) for message in messages)
        return [delivery for delivery in deliveries if self._is_new(delivery)]

    def _is_new(self, delivery: SqsDelivery) -> bool:
        """Take hold of a message, unless it is one that we work on or have finished."""
        if self._keeper.adopt(delivery.delivery_id, delivery.lease.receipt):
            metrics.DUPLICATES.inc()
            log.info("analysis.duplicate_delivery", message_id=delivery.delivery_id, running=True)
            return False
        if delivery.delivery_id in self._finished:
            metrics.DUPLICATES.inc()
            log.info("analysis.duplicate_delivery", message_id=delivery.delivery_id, running=False)
            self.settle(delivery, Settlement.DELETE, 0)
            return False
        self._keeper.hold(delivery.lease)
        return True

    def settle(self, delivery: SqsDelivery, settlement: Settlement, delay: float) -> None:
        """Do with the message what was decided; a failure leaves it to its visibility timeout."""
        # First, so that no renewal hides again what is given back.
        self._keeper.release(delivery.lease)
        try:
            self._settle(delivery.lease, settlement, delay)
        except (BotoCoreError, ClientError) as error:
            log.warning(
                "analysis.settle_failed", settlement=settlement.value, reason=type(error).__name__
            )

    def _settle(self, lease: Lease, settlement: Settlement, delay: float) -> None:
        if settlement is Settlement.DELETE:
            self._finished[lease.message_id] = None
            if len(self._finished) > _FINISHED_KEPT:
                self._finished.popitem(last=False)
            self._client.delete_message(QueueUrl=lease.queue_url, ReceiptHandle=lease.receipt)
        elif settlement is not Settlement.FORGET:
            seconds = 0 if settlement is Settlement.HAND_BACK else round(delay)
            self._client.change_message_visibility(
                QueueUrl=lease.queue_url,
                ReceiptHandle=lease.receipt,
                VisibilityTimeout=min(seconds, SQS_MAX_VISIBILITY_SECONDS),
            )

    def check(self) -> None:
        """Raise unless the first queue answers."""
        self._client.get_queue_attributes(
            QueueUrl=self._queues[0].url, AttributeNames=["ApproximateNumberOfMessages"]
        )
