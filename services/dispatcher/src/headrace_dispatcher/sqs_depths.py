"""How much waits in SQS. One of all dispatchers asks, and tells the others through Redis.

SQS bills each look at each queue, and every replica would get the same answer. Whoever finds that
nobody has asked lately does so; one that dies is missed for the length of its turn.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import Gauge

from headrace_common.settings import SqsSettings
from headrace_common.sqs import sqs_client
from headrace_dispatcher.dead.from_sqs import Queue, queues_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 15.0
#: Nobody asks again for so long: with one replica, every second step does.
_TURN_MS: Final = 28_000
#: Figures that are older say nothing.
_KEPT_SECONDS: Final = 120
_READ_SECONDS: Final = 10.0

_MESSAGES: Final = Gauge(
    "headrace_sqs_messages",
    "Messages in SQS, about, as SQS itself says: `visible`, `in_flight` or `delayed`",
    ["queue", "state"],
)
_ATTRIBUTES: "Final[dict[QueueAttributeNameType, str]]" = {
    "ApproximateNumberOfMessages": "visible",
    "ApproximateNumberOfMessagesNotVisible": "in_flight",
    "ApproximateNumberOfMessagesDelayed": "delayed",
}

#: By queue and state.
_Figures = dict[str, dict[str, int]]


class SqsDepths:
    """Measures the queues of SQS that are configured; none is well too."""

    def __init__(self, settings: SqsSettings, client: redis.Redis, *, namespace: str) -> None:
        """Make it; the first step connects.

        Args:
            settings: name the queues.
            client: of the Redis that all dispatchers share.
            namespace: Dramatiq's, before the names of keys.
        """
        self._queues: Sequence[Queue] = queues_of(settings)
        self._sqs: SQSClient | None = (
            sqs_client(settings, read_timeout_seconds=_READ_SECONDS) if self._queues else None
        )
        self._redis = client
        self._turn_key = f"{namespace}:sqs-depths:turn"
        self._figures_key = f"{namespace}:sqs-depths"

    def step(self) -> float:
        """Measure, and return the seconds until the next time; keep the figures on an error."""
        if self._sqs is None:
            return _PAUSE_SECONDS
        try:
            figures = self._figures(self._sqs)
        except (BotoCoreError, ClientError) as error:
            log.info("dispatcher.sqs_not_measured", error=type(error).__name__)
        else:
            for queue in self._queues:
                for state, count in figures.get(queue.name, {}).items():
                    _MESSAGES.labels(queue=queue.name, state=state).set(count)
        return _PAUSE_SECONDS

    def _figures(self, sqs: "SQSClient") -> Mapping[str, Mapping[str, int]]:
        try:
            if not self._redis.set(self._turn_key, "taken", nx=True, px=_TURN_MS):
                return self._told()
            figures = self._ask(sqs)
            self._redis.set(self._figures_key, json.dumps(figures), ex=_KEPT_SECONDS)
        except (redis.RedisError, OSError):
            # Each for itself, while nobody can be told.
            return self._ask(sqs)
        return figures

    def _told(self) -> _Figures:
        """Return what another replica found; nothing where that is too long ago."""
        told: Any = self._redis.get(self._figures_key)
        figures: _Figures = json.loads(told or "{}")
        return figures

    def _ask(self, sqs: "SQSClient") -> _Figures:
        return {queue.name: _depth(sqs, queue) for queue in self._queues}


def _depth(sqs: "SQSClient", queue: Queue) -> dict[str, int]:
    attributes = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=list(_ATTRIBUTES))[
        "Attributes"
    ]
    return {state: int(attributes.get(name, "0")) for name, state in _ATTRIBUTES.items()}
