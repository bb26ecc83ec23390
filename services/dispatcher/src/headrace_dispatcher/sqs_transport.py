"""The way over SQS: one SendMessageBatch for up to ten jobs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_common.contracts.analysis import AnalysisRequest
from headrace_common.contracts.lanes import Lane
from headrace_common.settings import SqsSettings
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES, lane_queue_urls, sqs_client
from headrace_dispatcher.transports import Dispatch, Receipt, TransportError, TransportName

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

log = structlog.get_logger()

#: A send is answered in milliseconds; a stop waits for those that are under way, three tries each.
_READ_TIMEOUT_SECONDS: Final = 10.0


class SqsTransport:
    """Sends jobs to the SQS queue of their lane."""

    name = TransportName.SQS
    max_entries = SQS_MAX_BATCH_ENTRIES

    def __init__(self, settings: SqsSettings) -> None:
        """Make the client; nothing is sent yet."""
        self.max_bytes = settings.sqs_max_message_bytes
        self._client = sqs_client(settings, read_timeout_seconds=_READ_TIMEOUT_SECONDS)
        self._urls = lane_queue_urls(settings)

    def destinations(self) -> Sequence[str]:
        """Return the URLs of the lanes' queues."""
        return sorted(set(self._urls.values()))

    def destination(self, lane: Lane) -> str:
        """Return the URL of the lane's queue."""
        return self._urls[lane]

    def send(self, destination: str, batch: Sequence[Dispatch]) -> list[Receipt | TransportError]:
        """Send `batch` in one call; SQS takes or refuses each message by itself."""
        entries = [
            _entry(index, dispatch, fifo=destination.endswith(".fifo"))
            for index, dispatch in enumerate(batch)
        ]
        try:
            answer = self._client.send_message_batch(QueueUrl=destination, Entries=entries)
        except ClientError as error:
            raise _client_error(error) from error
        except BotoCoreError as error:
            raise TransportError(
                f"SQS does not answer: {error}", retryable=True, systemic=True
            ) from error
        results: dict[str, Receipt | TransportError] = {
            taken["Id"]: Receipt({"sqs_message_id": taken["MessageId"]})
            for taken in answer.get("Successful", [])
        }
        for refused in answer.get("Failed", []):
            reason = f"SQS refused the message: {refused['Code']} {refused.get('Message', '')}"
            passing = not refused["SenderFault"]
            results[refused["Id"]] = TransportError(
                reason.strip(), retryable=passing, systemic=passing
            )
        log.info("dispatcher.batch_sent", entries=len(batch), refused=len(answer.get("Failed", [])))
        unanswered = TransportError(
            "SQS said nothing of the message", retryable=True, systemic=True
        )
        return [results.get(str(index), unanswered) for index in range(len(batch))]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _entry(index: int, dispatch: Dispatch, *, fifo: bool) -> "SendMessageBatchRequestEntryTypeDef":
    entry: SendMessageBatchRequestEntryTypeDef = {
        "Id": str(index),
        "MessageBody": dispatch.request.body(),
        "MessageAttributes": {
            name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
            for name, value in AnalysisRequest.attributes(dispatch.lane, dispatch.trace).items()
        },
    }
    if fifo:
        # Jobs do not depend on one another, so each is a group of its own.
        entry["MessageGroupId"] = dispatch.request.job_id
        entry["MessageDeduplicationId"] = (
            f"{dispatch.request.job_id}-{dispatch.request.timestamp.timestamp()}"
        )
    return entry


def _client_error(error: ClientError) -> TransportError:
    """Tell what can pass (throttling, 5xx, a queue that is being restored) from what cannot."""
    code = error.response["Error"]["Code"]
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    final = 400 <= status < 500 and status != 429 and code in _FINAL_CODES
    return TransportError(f"SQS answered {code}: {error}", retryable=not final, systemic=not final)


#: Asking again with the same words cannot help.
_FINAL_CODES = frozenset(
    {
        "InvalidMessageContents",
        "UnsupportedOperation",
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "BatchRequestTooLong",
        "InvalidParameterValue",
    }
)
