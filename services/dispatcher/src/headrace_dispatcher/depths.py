"""How much waits in each queue, and since when: rows, messages in Redis, messages in SQS.

The rows are the truth. A queue that has messages and no rows, or the other way round, is what the
sweep mends.
"""

from typing import TYPE_CHECKING, Final

import redis
import structlog
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import Gauge

from headrace_common.contracts.messages import APPLY_REPORT_QUEUE
from headrace_common.settings import SqsSettings
from headrace_common.sqs import sqs_client
from headrace_dispatcher.dead.from_sqs import Queue, queues_of
from headrace_dispatcher.gate import DATABASE_AWAY
from headrace_dispatcher.queues import Queues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 15.0
#: Each look costs a call a queue, which SQS bills.
_SQS_PAUSE_SECONDS: Final = 30.0
_READ_SECONDS: Final = 10.0

_JOBS: Final = Gauge(
    "headrace_queue_jobs",
    "Jobs of a queue, from their rows: `waiting` for a worker, or `started`; those that are `held` "
    "for their next try or for a dependency at fault are among these",
    ["queue", "state"],
)
_OLDEST: Final = Gauge(
    "headrace_queue_oldest_age_seconds",
    "Since the job that waits longest in a queue began to; 0: there is none",
    ["queue"],
)
_PAUSED: Final = Gauge("headrace_queue_paused", "1: nothing is taken off the queue", ["queue"])
_MESSAGES: Final = Gauge(
    "headrace_queue_messages",
    "Messages in Redis: `waiting` to be fetched, `fetched` by a worker, or `delayed` until their "
    "next try",
    ["queue", "state"],
)
_SQS_MESSAGES: Final = Gauge(
    "headrace_sqs_messages",
    "Messages in SQS, about, as SQS itself says: `visible`, `in_flight` or `delayed`",
    ["queue", "state"],
)
_ATTRIBUTES: "Final[dict[QueueAttributeNameType, str]]" = {
    "ApproximateNumberOfMessages": "visible",
    "ApproximateNumberOfMessagesNotVisible": "in_flight",
    "ApproximateNumberOfMessagesDelayed": "delayed",
}


class Depths:
    """Measures the queues. Every replica does, and all say the same."""

    def __init__(self, queues: Queues, client: redis.Redis, *, namespace: str) -> None:
        """Make it.

        Args:
            queues: the lanes and the stream.
            client: of the Redis with the messages.
            namespace: Dramatiq's.
        """
        self._queues = queues
        self._redis = client
        self._namespace = namespace

    def step(self) -> float:
        """Measure, and return the seconds until the next time; keep the figures on an error."""
        try:
            self._measure_rows()
            self._measure_messages()
        except (*DATABASE_AWAY, redis.RedisError, OSError) as error:
            log.info("dispatcher.depths_not_measured", error=type(error).__name__)
        return _PAUSE_SECONDS

    def _measure_rows(self) -> None:
        for view in self._queues.show():
            _JOBS.labels(queue=view.name, state="waiting").set(view.waiting)
            _JOBS.labels(queue=view.name, state="held").set(sum(view.waiting_for.values()))
            _JOBS.labels(queue=view.name, state="started").set(view.started)
            _OLDEST.labels(queue=view.name).set(max(view.oldest_seconds, 0.0))
            _PAUSED.labels(queue=view.name).set(view.paused)

    def _measure_messages(self) -> None:
        names = [*self._queues.lanes, APPLY_REPORT_QUEUE]
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                key = f"{self._namespace}:{name}"
                pipeline.llen(key)
                pipeline.hlen(f"{key}.msgs")
                pipeline.hlen(f"{key}.DQ.msgs")
            answers = [int(answer) for answer in pipeline.execute()]
        for name, waiting, held, delayed in zip(
            names, answers[::3], answers[1::3], answers[2::3], strict=True
        ):
            _MESSAGES.labels(queue=name, state="waiting").set(waiting)
            _MESSAGES.labels(queue=name, state="fetched").set(max(held - waiting, 0))
            _MESSAGES.labels(queue=name, state="delayed").set(delayed)


class SqsDepths:
    """Measures the queues of SQS that are configured; none is well too."""

    def __init__(self, settings: SqsSettings) -> None:
        """Make it; the first step connects."""
        self._queues: Sequence[Queue] = queues_of(settings)
        self._client: SQSClient | None = (
            sqs_client(settings, read_timeout_seconds=_READ_SECONDS) if self._queues else None
        )

    def step(self) -> float:
        """Measure, and return the seconds until the next time; keep the figures on an error."""
        try:
            for queue in self._queues:
                self._measure(queue)
        except (BotoCoreError, ClientError) as error:
            log.info("dispatcher.sqs_not_measured", error=type(error).__name__)
        return _SQS_PAUSE_SECONDS

    def _measure(self, queue: Queue) -> None:
        assert self._client is not None  # noqa: S101 - there is one where there are queues
        attributes = self._client.get_queue_attributes(
            QueueUrl=queue.url, AttributeNames=list(_ATTRIBUTES)
        )["Attributes"]
        for attribute, state in _ATTRIBUTES.items():
            count = int(attributes.get(attribute, "0"))
            _SQS_MESSAGES.labels(queue=queue.name, state=state).set(count)
