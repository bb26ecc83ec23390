"""Where a job's message is: nowhere, waiting in its lane, or in a worker's hands for too long."""

import time
from collections.abc import Sequence
from typing import Final

import redis
from dramatiq.brokers.redis import RedisBroker

from headrace_common.broker import QueueUnavailableError, lost_messages
from headrace_common.contracts.lanes import Lane

#: Longest lane that is read whole; of a longer one nobody says that a message is not in it.
_MOST_WAITING: Final = 200_000
#: A message that was fetched this very moment is in nobody's hands for long.
_SUSPECT_SECONDS: Final = 30.0
#: Suspicions are forgotten after so long without being confirmed.
_FORGET_SECONDS: Final = 600.0


class MessageLookup:
    """Looks messages up in Redis. For one thread, which looks again and again."""

    def __init__(self, broker: RedisBroker) -> None:
        """Look in the broker's lanes."""
        self._broker = broker
        self._suspects: dict[str, float] = {}

    def lost(self, lane: Lane, message_ids: Sequence[str]) -> set[str]:
        """Return those of `message_ids` that Redis does not hold.

        Raises:
            QueueUnavailableError: Redis is away, which says nothing of the messages.
        """
        return set(lost_messages(self._broker, lane.queue_name, message_ids))

    def stuck(self, lane: Lane, message_ids: Sequence[str]) -> set[str]:
        """Return those that Redis does not hold, or that somebody fetched long ago.

        Raises:
            QueueUnavailableError: Redis is away, which says nothing of the messages.
        """
        lost = self.lost(lane, message_ids)
        waiting = self._waiting(lane)
        if waiting is None:
            return lost
        now = time.monotonic()
        self._suspects = {
            key: since for key, since in self._suspects.items() if now - since < _FORGET_SECONDS
        }
        in_hand = set(message_ids) - lost - waiting
        for key in set(message_ids) - in_hand:
            self._suspects.pop(key, None)
        since = {key: self._suspects.setdefault(key, now) for key in in_hand}
        return lost | {key for key in in_hand if now - since[key] >= _SUSPECT_SECONDS}

    def _waiting(self, lane: Lane) -> set[str] | None:
        """Return the messages that wait in a lane; None if it is too long to say."""
        key = f"{self._broker.namespace}:{lane.queue_name}"
        try:
            waiting = self._broker.client.lrange(key, 0, _MOST_WAITING)
        except redis.RedisError as error:
            raise QueueUnavailableError(str(error)) from error
        if len(waiting) > _MOST_WAITING:
            return None
        return {key.decode() for key in waiting if isinstance(key, bytes)}
