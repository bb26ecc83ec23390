"""Consumers that lose nothing to a Redis which is silent: Dramatiq's own leave it behind.

Dramatiq takes a time-out of Redis for a bug. It forgets the messages whose answer came too late,
and they stay fetched, out of everybody's reach, for as long as the worker lives.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.common import q_name
from dramatiq.errors import ConnectionClosed

log = structlog.get_logger()

#: How often a consumer looks for messages that are to wait for their time, a second at least.
_DELAYED_POLL_MS: Final = 500
#: How often a consumer looks for messages that it fetched without getting them.
_RECONCILE_SECONDS: Final = 5.0

# The private parts of Dramatiq that the consumer below stands on.
assert hasattr(RedisBroker, "consumer_class")  # noqa: S101 - a canary, at import
assert hasattr(_RedisConsumer, "__next__")  # noqa: S101 - likewise


@contextmanager
def timeouts_as_ends() -> Iterator[None]:
    """Make a server that is silent look like a connection that ended: Dramatiq tries again then.

    It knows no other error of Redis, and would forget the message.
    """
    try:
        yield
    except (redis.TimeoutError, redis.ConnectionError) as error:
        raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]


class RepairingConsumer(_RedisConsumer):
    """Fetches a queue's messages, and lets others have those that went astray on their way."""

    def __init__(
        self, broker: "RepairingBroker", queue_name: str, prefetch: int, timeout: int
    ) -> None:
        """Fetch from `queue_name`; see Dramatiq for the arguments."""
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._reconciled_at = 0.0
        if q_name(queue_name) != queue_name:
            self.timeout = max(timeout, _DELAYED_POLL_MS)
            # What waits for its time is in the consumer's own thread, which has forgotten it.
            self._in_hand.clear()

    def __next__(self) -> MessageProxy | None:
        """Return the next message; None where there is none to be had now."""
        with timeouts_as_ends():
            if not self.message_cache and not self._may_fetch():
                return None
            message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        if message is not None:
            self._in_hand.add(message.options["redis_message_id"])
        return message

    def ack(self, message: MessageProxy) -> None:
        """Note that a message is done."""
        try:
            with timeouts_as_ends():
                super().ack(message)  # type: ignore[no-untyped-call]
        finally:
            self._in_hand.discard(message.options["redis_message_id"])

    def nack(self, message: MessageProxy) -> None:
        """Put a message among the dead letters."""
        try:
            with timeouts_as_ends():
                super().nack(message)  # type: ignore[no-untyped-call]
        finally:
            self._in_hand.discard(message.options["redis_message_id"])

    def close(self) -> None:
        """Let others have what was fetched and is not in anybody's hands."""
        self.message_cache = []
        try:
            self._reconcile()
        except redis.RedisError as error:
            # They are found once this worker counts as dead.
            log.warning("consumer.not_given_back", queue=self.queue_name, error=str(error)[:500])

    @property
    def _in_hand(self) -> set[str]:
        hands: dict[str, set[str]] = self.broker.in_hand
        return hands.setdefault(self.queue_name, set())

    @property
    def _acks(self) -> str:
        return f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"

    def _may_fetch(self) -> bool:
        """Say whether to fetch now, and repair what there is to repair."""
        now = time.monotonic()
        if now >= self._reconciled_at + _RECONCILE_SECONDS:
            self._reconciled_at = now
            self._reconcile()
        return True

    def _reconcile(self) -> None:
        """Let others have what Redis thinks is in our hands, and is not.

        An answer that was lost, because the connection ended or Redis was frozen, leaves messages
        fetched that nobody got; as long as this worker lives nobody would take them over. Only
        this thread fetches from the queue, so that nothing is on its way to us now; what is
        acknowledged meanwhile is not requeued.
        """
        fetched = self.broker.client.smembers(self._acks)
        astray = {str(key, "ascii") for key in fetched} - self._in_hand
        if astray:
            log.warning("consumer.messages_astray", queue=self.queue_name, messages=len(astray))
            self.broker.do_requeue(self.queue_name, *astray)


class RepairingBroker(RedisBroker):
    """A broker with such consumers."""

    def __init__(self, **options: Any) -> None:
        """Make it; see Dramatiq for the options."""
        #: Keys of the messages that this process got and has not given back, by queue.
        self.in_hand: dict[str, set[str]] = {}
        super().__init__(**options)  # type: ignore[no-untyped-call]

    @property
    def consumer_class(self) -> Any:
        """The consumers to use."""
        return RepairingConsumer
