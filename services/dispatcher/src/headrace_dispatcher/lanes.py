"""Strict lanes: nothing is fetched from a lane while a better one has messages waiting.

Dramatiq's consumers each fetch their own queue. With a worker's threads busy, every queue's
consumer keeps its share prefetched, so that a full high lane would still let some of the low
one through. Here a consumer first looks at the better lanes, which makes the order strict
between all workers but for what they have prefetched already, as many messages as threads.
"""

import time
from typing import Any, Final

from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer

from headrace_common.contracts.lanes import Lane

#: Time until a consumer looks again whether the better lanes are empty.
_LOOK_AGAIN_SECONDS: Final = 0.05
_BETTER_QUEUES: Final = {
    lane.queue_name: [other.queue_name for other in Lane if other.rank < lane.rank] for lane in Lane
}

# The two private parts of Dramatiq that the consumer below stands on.
assert hasattr(RedisBroker, "consumer_class")  # noqa: S101 - a canary, at import
assert hasattr(_RedisConsumer, "__next__")  # noqa: S101 - likewise


class LaneConsumer(_RedisConsumer):
    """Fetches a lane's messages when the better lanes have none waiting."""

    def __next__(self) -> MessageProxy | None:
        """Return the next message; None where there is none to be had now."""
        if not self.message_cache and self._must_stand_back():
            time.sleep(_LOOK_AGAIN_SECONDS)
            return None
        message: MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        return message

    def _must_stand_back(self) -> bool:
        better = _BETTER_QUEUES.get(self.queue_name)
        if not better:
            return False
        with self.broker.client.pipeline(transaction=False) as pipeline:
            for queue_name in better:
                pipeline.llen(f"{self.broker.namespace}:{queue_name}")
            return any(pipeline.execute())


class LaneBroker(RedisBroker):
    """A broker whose consumers respect the lanes."""

    @property
    def consumer_class(self) -> Any:
        """The consumers to use."""
        return LaneConsumer
