"""SQS: the client, and the queues that the audio path stands on (requirement A13)."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3

from headrace_common.aws import client_arguments
from headrace_common.aws_calls import measure
from headrace_common.contracts.lanes import Lane
from headrace_common.settings import SQS_MAX_WAIT_SECONDS, SqsSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

#: A batch call takes at most so many entries.
SQS_MAX_BATCH_ENTRIES: Final = 10

ANALYSIS_QUEUE: Final = "audio-analysis-queue"
RESULT_QUEUE: Final = "analysis-results-queue"
#: Receives before a message goes to the dead letters.
MAX_RECEIVES: Final = 3
#: SQS keeps no message longer. A dead letter keeps its first send time, so that its queue
#: needs a longer retention than the one it came from.
_DLQ_RETENTION_SECONDS: Final = 14 * 24 * 3600
_RETENTION_SECONDS: Final = 4 * 24 * 3600
_VISIBILITY_SECONDS: Final = 120


@dataclass(frozen=True)
class QueueUrls:
    """The queues of one installation; the lanes may share one."""

    by_lane: dict[Lane, str]
    results: str


def sqs_client(
    settings: SqsSettings, *, read_timeout_seconds: float = SQS_MAX_WAIT_SECONDS + 10
) -> "SQSClient":
    """Make an SQS client for AWS, or for the compatible server that SQS_ENDPOINT_URL names.

    Args:
        settings: of SQS.
        read_timeout_seconds: longest wait for an answer; by default enough for a long poll.
    """
    client = boto3.client(
        "sqs",
        endpoint_url=settings.sqs_endpoint_url,
        **client_arguments(settings, connect_timeout=5, read_timeout=read_timeout_seconds),
    )
    measure(client)
    return client


def lane_queue_urls(settings: SqsSettings) -> dict[Lane, str]:
    """Return the SQS queue of each lane; lanes without one of their own use SQS_QUEUE_URL.

    Raises:
        ValueError: SQS_QUEUE_URL is not set.
    """
    shared = settings.sqs_queue_url
    if shared is None:
        raise ValueError("SQS_QUEUE_URL is not set")
    return {
        Lane.HIGH: settings.sqs_queue_url_high or shared,
        Lane.NORMAL: shared,
        Lane.LOW: settings.sqs_queue_url_low or shared,
    }


def ensure_queues(
    client: "SQSClient", *, lane_queues: bool = True, fifo: bool = False, prefix: str = ""
) -> QueueUrls:
    """Create the queues, each with a dead-letter queue and a redrive policy, where missing.

    Args:
        client: the SQS client.
        lane_queues: give the high and the low lane a queue of their own.
        fifo: make FIFO queues (names end in `.fifo`) instead of standard ones.
        prefix: put before each name, to keep installations apart.
    """

    def ensure(name: str) -> str:
        return _ensure_with_dead_letters(client, prefix + name, fifo=fifo)

    normal = ensure(ANALYSIS_QUEUE)
    return QueueUrls(
        by_lane={
            Lane.HIGH: ensure(f"{ANALYSIS_QUEUE}-high") if lane_queues else normal,
            Lane.NORMAL: normal,
            Lane.LOW: ensure(f"{ANALYSIS_QUEUE}-low") if lane_queues else normal,
        },
        results=ensure(RESULT_QUEUE),
    )


def _ensure_with_dead_letters(client: "SQSClient", name: str, *, fifo: bool) -> str:
    dead_url = _ensure(
        client, f"{name}-dlq", {"MessageRetentionPeriod": _DLQ_RETENTION_SECONDS}, fifo
    )
    arn = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
    attributes: dict[QueueAttributeNameType, int | str] = {
        "MessageRetentionPeriod": _RETENTION_SECONDS,
        "VisibilityTimeout": _VISIBILITY_SECONDS,
        "ReceiveMessageWaitTimeSeconds": SQS_MAX_WAIT_SECONDS,
        "RedrivePolicy": json.dumps(redrive),
    }
    return _ensure(client, name, attributes, fifo)


def _ensure(
    client: "SQSClient",
    name: str,
    attributes: "Mapping[QueueAttributeNameType, int | str]",
    fifo: bool,  # noqa: FBT001 - private
) -> str:
    wanted = {key: str(value) for key, value in attributes.items()}
    if fifo:
        wanted["FifoQueue"] = "true"
    full_name = f"{name}.fifo" if fifo else name
    try:
        return client.get_queue_url(QueueName=full_name)["QueueUrl"]
    except client.exceptions.QueueDoesNotExist:
        return client.create_queue(QueueName=full_name, Attributes=wanted)["QueueUrl"]
