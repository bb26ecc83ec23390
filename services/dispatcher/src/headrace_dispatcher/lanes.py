"""Strict lanes behind a gate: nothing is fetched that nobody can work on, or out of order.

Dramatiq's consumers each fetch their own queue. With a worker's threads busy, every queue's
consumer keeps its share prefetched, so that a full high lane would still let some of the low
one through. Here a consumer first looks at the better lanes, which makes the order strict
between all workers but for what they have prefetched already, as many messages as threads.
A lane that is paused holds back no other.

A message that was fetched before the gate shut is handed back to the head of its lane.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import CurrentMessage

from headrace_common.contracts.lanes import Lane
from headrace_dispatcher.gate import Gate

log = structlog.get_logger()

#: Time until a consumer looks again whether the gate is open and the better lanes are empty.
_LOOK_AGAIN_SECONDS: Final = 0.05
#: How often a consumer that may not fetch tells the others that its worker lives, and looks for
#: messages of dead ones: what fetching does by the way.
_SIGN_OF_LIFE_SECONDS: Final = 1.0
#: How often a consumer looks for messages that it fetched without getting them.
_RECONCILE_SECONDS: Final = 5.0
#: Option of a message in hand that is not done; never in Redis.
_HAND_BACK: Final = "headrace_hand_back"
_BETTER_QUEUES: Final = {
    lane.queue_name: [other.queue_name for other in Lane if other.rank < lane.rank] for lane in Lane
}
# Keys: set of what this worker has fetched from the queue, list of waiting ids, hash of messages.
_HAND_BACK_SCRIPT: Final = """
if redis.call('srem', KEYS[1], ARGV[1]) > 0 and redis.call('hexists', KEYS[3], ARGV[1]) > 0 then
    redis.call('lpush', KEYS[2], ARGV[1])
end
"""

# The private parts of Dramatiq that the consumer below stands on.
assert hasattr(RedisBroker, "consumer_class")  # noqa: S101 - a canary, at import
assert hasattr(_RedisConsumer, "__next__")  # noqa: S101 - likewise


def hand_back() -> None:
    """Let the message that this thread works on go back to the head of its lane afterwards."""
    message = CurrentMessage.get_current_message()
    if message is not None:
        message.options[_HAND_BACK] = True


@contextmanager
def _timeouts_as_ends() -> Iterator[None]:
    """Make a server that is silent look like a connection that ended: Dramatiq tries again then.

    It knows no other error of Redis, and would forget the message.
    """
    try:
        yield
    except (redis.TimeoutError, redis.ConnectionError) as error:
        raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]


class LaneConsumer(_RedisConsumer):
    """Fetches a lane's messages when the gate lets it and the better lanes have none waiting."""

    def __init__(self, broker: "LaneBroker", queue_name: str, prefetch: int, timeout: int) -> None:
        """Fetch from `queue_name`; see Dramatiq for the arguments."""
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._most = prefetch
        self._alive_at = 0.0
        self._reconciled_at = 0.0

    def __next__(self) -> MessageProxy | None:
        """Return the next message; None where there is none to be had now."""
        with _timeouts_as_ends():
            if not self.message_cache and not self._may_fetch():
                time.sleep(_LOOK_AGAIN_SECONDS)
                return None
            message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        if message is not None:
            self._in_hand.add(message.options["redis_message_id"])
        return message

    def ack(self, message: MessageProxy) -> None:
        """Note that a message is done, or hand it back if it is not."""
        key = message.options["redis_message_id"]
        try:
            with _timeouts_as_ends():
                if message.options.get(_HAND_BACK):
                    self._hand_back(key)
                    self.queued_message_ids.discard(message.message_id)
                else:
                    super().ack(message)  # type: ignore[no-untyped-call]
        finally:
            self._in_hand.discard(key)

    def nack(self, message: MessageProxy) -> None:
        """Put a message among the dead letters."""
        try:
            with _timeouts_as_ends():
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
            log.warning("dispatcher.not_given_back", queue=self.queue_name, error=str(error))

    @property
    def _in_hand(self) -> set[str]:
        hands: dict[str, set[str]] = self.broker.in_hand
        return hands.setdefault(self.queue_name, set())

    def _may_fetch(self) -> bool:
        now = time.monotonic()
        if now >= self._reconciled_at + _RECONCILE_SECONDS:
            self._reconciled_at = now
            self._reconcile()
        gate: Gate | None = self.broker.gate
        room = gate.room(self.queue_name) if gate else None
        if room == 0:
            self._show_life(now)
            return False
        if self._must_stand_back(gate.paused if gate else frozenset()):
            return False
        if room is not None and self.outstanding_message_count >= room:
            return False
        self.prefetch = self._most if room is None else min(self._most, room)
        return True

    def _must_stand_back(self, paused: frozenset[str]) -> bool:
        better = [name for name in _BETTER_QUEUES.get(self.queue_name, ()) if name not in paused]
        if not better:
            return False
        with self.broker.client.pipeline(transaction=False) as pipeline:
            for queue_name in better:
                pipeline.llen(f"{self.broker.namespace}:{queue_name}")
            return any(pipeline.execute())

    def _show_life(self, now: float) -> None:
        if now >= self._alive_at + _SIGN_OF_LIFE_SECONDS:
            self._alive_at = now
            self.broker.do_qsize(self.queue_name)

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
            log.warning("dispatcher.messages_astray", queue=self.queue_name, messages=len(astray))
            self.broker.do_requeue(self.queue_name, *astray)

    def _hand_back(self, key: str) -> None:
        queue = f"{self.broker.namespace}:{self.queue_name}"
        self.broker.client.eval(_HAND_BACK_SCRIPT, 3, self._acks, queue, f"{queue}.msgs", key)

    @property
    def _acks(self) -> str:
        return f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"


class LaneBroker(RedisBroker):
    """A broker whose consumers respect the lanes and their gate."""

    def __init__(self, **options: Any) -> None:
        """Make it, without a gate; see Dramatiq for the options."""
        #: Says what may be fetched; None: everything.
        self.gate: Gate | None = None
        #: Keys of the messages that this process got and has not given back, by queue.
        self.in_hand: dict[str, set[str]] = {}
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.add_middleware(CurrentMessage())

    @property
    def consumer_class(self) -> Any:
        """The consumers to use."""
        return LaneConsumer
