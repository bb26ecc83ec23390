"""Strict lanes behind a gate: nothing is fetched that nobody can work on, or out of order.

Dramatiq's consumers each fetch their own queue. With a worker's threads busy, every queue's
consumer keeps its share prefetched, so that a full high lane would still let some of the low
one through. Here a consumer first looks at the better lanes, which makes the order strict
between all workers but for what they have prefetched already, as many messages as threads.
A lane that is paused holds back no other.

A message that was fetched before the gate shut is handed back to the head of its lane.
"""

import time
from typing import Any, Final

from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage

from headrace_common.consumers import RepairingBroker, RepairingConsumer, timeouts_as_ends
from headrace_common.contracts.lanes import Lane
from headrace_dispatcher.gate import Gate

#: Time until a consumer looks again whether the gate is open and the better lanes are empty.
_LOOK_AGAIN_SECONDS: Final = 0.05
#: How often a consumer that may not fetch tells the others that its worker lives, and looks for
#: messages of dead ones: what fetching does by the way.
_SIGN_OF_LIFE_SECONDS: Final = 1.0
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


def hand_back() -> None:
    """Let the message that this thread works on go back to the head of its lane afterwards."""
    message = CurrentMessage.get_current_message()
    if message is not None:
        message.options[_HAND_BACK] = True


class LaneConsumer(RepairingConsumer):
    """Fetches a lane's messages when the gate lets it and the better lanes have none waiting."""

    def __init__(self, broker: "LaneBroker", queue_name: str, prefetch: int, timeout: int) -> None:
        """Fetch from `queue_name`; see Dramatiq for the arguments."""
        super().__init__(broker, queue_name, prefetch, timeout)
        self._most = prefetch
        self._alive_at = 0.0

    def ack(self, message: MessageProxy) -> None:
        """Note that a message is done, or hand it back if it is not."""
        if not message.options.get(_HAND_BACK):
            super().ack(message)
            return
        key = message.options["redis_message_id"]
        try:
            with timeouts_as_ends():
                self._hand_back(key)
                self.queued_message_ids.discard(message.message_id)
        finally:
            self._in_hand.discard(key)

    def _may_fetch(self) -> bool:
        may = super()._may_fetch() and self._is_let()
        if not may:
            time.sleep(_LOOK_AGAIN_SECONDS)
        return may

    def _is_let(self) -> bool:
        gate: Gate | None = self.broker.gate
        room = gate.room(self.queue_name) if gate else None
        if room == 0:
            self._show_life(time.monotonic())
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

    def _hand_back(self, key: str) -> None:
        queue = f"{self.broker.namespace}:{self.queue_name}"
        self.broker.client.eval(_HAND_BACK_SCRIPT, 3, self._acks, queue, f"{queue}.msgs", key)


class LaneBroker(RepairingBroker):
    """A broker whose consumers respect the lanes and their gate."""

    def __init__(self, **options: Any) -> None:
        """Make it, without a gate; see Dramatiq for the options."""
        #: Says what may be fetched; None: everything.
        self.gate: Gate | None = None
        super().__init__(**options)
        self.add_middleware(CurrentMessage())

    @property
    def consumer_class(self) -> Any:
        """The consumers to use."""
        return LaneConsumer
