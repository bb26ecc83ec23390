"""Letters of SQS: messages that were received too often, and moved to a dead-letter queue by it.

SQS throws them away after its retention, 14 days at most, so that they are moved over here:
received, kept, and only then deleted. What dies between comes again, and is recognised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import structlog
from botocore.exceptions import ClientError
from pydantic import JsonValue, ValidationError

from headrace_common.contracts.analysis import AnalysisReport
from headrace_common.settings import SqsSettings
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES, lane_queue_urls
from headrace_dispatcher.dead.keeping import Keep
from headrace_dispatcher.dead.letter import (
    Kind,
    NewLetter,
    Source,
    pack_text,
    read_object,
    storable_id,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = structlog.get_logger()

#: Time that keeping a batch may take before another replica gets it too.
_VISIBILITY_SECONDS: Final = 60
_FIFO: Final = ".fifo"
_NO_QUEUE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


@dataclass(frozen=True)
class Queue:
    """A queue of ours, whose dead letters are looked for."""

    url: str
    kind: Kind

    @property
    def name(self) -> str:
        """Its name, the last part of the URL."""
        return self.url.rpartition("/")[2]


def queues_of(settings: SqsSettings) -> list[Queue]:
    """Return every queue that is configured, each once."""
    requests = lane_queue_urls(settings).values() if settings.sqs_queue_url else ()
    urls = dict.fromkeys(requests, Kind.ANALYSIS_REQUEST)
    if settings.sqs_result_queue_url:
        urls[settings.sqs_result_queue_url] = Kind.ANALYSIS_REPORT
    return [Queue(url, kind) for url, kind in urls.items()]


class SqsLetters:
    """Moves the messages of the dead-letter queue of one queue."""

    source = Source.SQS

    def __init__(self, client: "SQSClient", keep: Keep, queue: Queue, *, wait_seconds: int) -> None:
        """Make it.

        Args:
            client: of SQS.
            keep: makes letters durable.
            queue: whose dead letters are looked for.
            wait_seconds: of one poll; without a wait only some of SQS's servers are asked.
        """
        self._client = client
        self._wait_seconds = wait_seconds
        self._keep = keep
        self._queue = queue

    def collect(self) -> None:
        """Move all that are there.

        Raises:
            BotoCoreError, ClientError: SQS is away, or refuses.
        """
        try:
            found = self._dead_letter_queue()
            while found is not None and self._move(found) > 0:
                pass
        except ClientError as error:
            # An emulator that was killed has forgotten its queues; whoever needs them makes them.
            if error.response["Error"]["Code"] not in _NO_QUEUE:
                raise

    def _dead_letter_queue(self) -> "_DeadLetterQueue | None":
        """Find it by the queue's redrive policy, else by its name.

        Asked each time, because a policy may be changed while we run.
        """
        answer = self._client.get_queue_attributes(
            QueueUrl=self._queue.url, AttributeNames=["RedrivePolicy"]
        )
        policy = read_object(answer.get("Attributes", {}).get("RedrivePolicy", ""))
        arn = str(policy.get("deadLetterTargetArn") or "")
        name = arn.rpartition(":")[2] or dead_letter_name(self._queue.name)
        url = self._client.get_queue_url(QueueName=name)["QueueUrl"]
        receives = policy.get("maxReceiveCount")
        return _DeadLetterQueue(url, int(receives) if receives else None)

    def _move(self, dead: "_DeadLetterQueue") -> int:
        answer = self._client.receive_message(
            QueueUrl=dead.url,
            MaxNumberOfMessages=SQS_MAX_BATCH_ENTRIES,
            WaitTimeSeconds=self._wait_seconds,
            VisibilityTimeout=_VISIBILITY_SECONDS,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if messages:
            now = datetime.now(UTC)
            self._keep([letter_of(self._queue, dead.max_receives, m, now=now) for m in messages])
            self._delete(dead.url, messages)
        return len(messages)

    def _delete(self, url: str, messages: "Sequence[MessageTypeDef]") -> None:
        answer = self._client.delete_message_batch(
            QueueUrl=url,
            Entries=[
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ],
        )
        if failed := answer.get("Failed"):
            # They come again, and are recognised.
            log.warning("dead.not_deleted", count=len(failed), reason=failed[0].get("Message"))


@dataclass(frozen=True)
class _DeadLetterQueue:
    url: str
    max_receives: int | None


def dead_letter_name(queue_name: str) -> str:
    """Return how the dead-letter queue is called of a queue that names none."""
    if queue_name.endswith(_FIFO):
        return f"{queue_name.removesuffix(_FIFO)}-dlq{_FIFO}"
    return f"{queue_name}-dlq"


def letter_of(
    queue: Queue, max_receives: int | None, message: "MessageTypeDef", *, now: datetime
) -> NewLetter:
    """Read a dead message; SQS says when it was sent, not when it died."""
    body = message.get("Body", "")
    told = read_object(body)
    system: dict[str, JsonValue] = {
        str(name): value for name, value in message.get("Attributes", {}).items()
    }
    received = str(system.get("ApproximateReceiveCount", ""))
    attempts = max_receives or (int(received) if received.isdecimal() else None)
    code, reason = _why(queue, body, attempts)
    payload: dict[str, JsonValue] = {
        "queue_url": queue.url,
        "body": pack_text(body.encode(errors="surrogatepass")),
        "attributes": _text_attributes(message),
        "system_attributes": system,
    }
    return NewLetter(
        source=Source.SQS,
        queue=queue.name,
        source_id=message["MessageId"],
        kind=queue.kind,
        code=code,
        reason=reason,
        payload=payload,
        died_at=now,
        job_id=storable_id(told.get("job_id")),
        run=run_of(told) if queue.kind is Kind.ANALYSIS_REQUEST else None,
        attempts=attempts,
    )


def run_of(request: dict[str, Any]) -> int:
    """Return the run of the job that a request asks for, which its callback URL tells."""
    query = parse_qs(urlsplit(str(request.get("callback_url", ""))).query)
    run = query.get("run", ["1"])[0]
    return int(run) if run.isdecimal() and len(run) < 9 else 1


def _why(queue: Queue, body: str, attempts: int | None) -> tuple[str, str]:
    """Say why a message died, as far as it shows: SQS itself only counts."""
    if queue.kind is Kind.ANALYSIS_REPORT:
        try:
            AnalysisReport.model_validate_json(body)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in fault["loc"])
            return "not_a_report", f"not a report: {where}: {fault['msg']}".replace(": : ", ": ")
        return "report_not_taken", f"received {attempts} times, and not taken: is its job known?"
    return "max_receives", f"received {attempts} times by analysis servers without an end"


def _text_attributes(message: "MessageTypeDef") -> dict[str, JsonValue]:
    """Return the attributes that are text; ours all are."""
    return {
        name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
        for name, value in message.get("MessageAttributes", {}).items()
        if "StringValue" in value
    }
