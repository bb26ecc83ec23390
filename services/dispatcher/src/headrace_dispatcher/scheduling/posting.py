"""Putting messages of firings on their queues: each once, and only as long as its sender leads.

Redis knows nothing of the term's lock. A leader that is frozen between its look at the database
and this would send after its thaw what another has sent. So one script looks at the term's number,
which Redis keeps too, and at a mark of the message's own, before it puts the message on its queue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Final
from uuid import UUID, uuid5

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker

from headrace_common.broker import QueueUnavailableError
from headrace_common.telemetry.metrics import MESSAGES_SENT

#: How long a message which was sent is remembered; the term's number is kept for ever. It counts
#: where its sender did not come to note it: so long may nobody lead, or Postgres be away. Who gets
#: `firing_id` finds it in the firing's row that there is nothing to do; of others, the mark alone
#: says it.
_MARK_SECONDS: Final = 3600
_MARK_UNTRACKED_SECONDS: Final = 24 * 3600
_IDS: Final = UUID("8f0c3c52-5f0e-4a2d-9a58-31c6c0b5d7aa")
#: What it does once it may is what Dramatiq's own script does to enqueue.
_POST: Final = """
local newest = tonumber(redis.call('GET', KEYS[1]) or '0')
if newest > tonumber(ARGV[1]) then return -1 end
if newest < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) then return 0 end
redis.call('HSET', KEYS[4], ARGV[3], ARGV[4])
redis.call('RPUSH', KEYS[3], ARGV[3])
return 1
"""


class Posted(IntEnum):
    """What became of a message."""

    DEPOSED = -1  #: another leads
    ALREADY = 0
    SENT = 1


@dataclass(frozen=True)
class Letter:
    """A message of a firing, and what its row has to say once it is sent."""

    firing_id: int
    schedule_id: str
    fire_at: datetime
    target: str
    target_key: str
    tries: int
    queue: str
    actor: str
    is_tracked: bool
    kwargs: Mapping[str, Any]
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def message_id(self) -> str:
        """The same for all who send this try of the firing.

        By its nominal time: a database that fails over may have lost the row, and make it anew
        with another id.
        """
        return str(uuid5(_IDS, f"{self.schedule_id} {self.fire_at.isoformat()} {self.tries}"))

    def message(self) -> "Message[Any]":
        """Return the message; its options say what it is of, for who has to know it from others."""
        return Message(
            queue_name=self.queue,
            actor_name=self.actor,
            args=(),
            kwargs=dict(self.kwargs),
            options={
                "trace": dict(self.trace),
                "redis_message_id": self.message_id,
                "firing_id": self.firing_id,
                "fire_at": self.fire_at.isoformat(),
            },
            message_id=self.message_id,
        )


class PostOffice:
    """Posts letters. Safe to use from any thread."""

    def __init__(self, broker: RedisBroker) -> None:
        """Post over the broker's own Redis."""
        self._broker = broker
        self._script = broker.client.register_script(_POST)

    @property
    def _epoch_key(self) -> str:
        return f"{self._broker.namespace}:scheduler:epoch"

    def open(self, epoch: int) -> None:
        """Say which term it is, once at its beginning.

        Whatever Redis kept is overwritten: the database may be another by now, or an older copy.

        Raises:
            QueueUnavailableError: Redis is away.
        """
        try:
            self._broker.client.set(self._epoch_key, epoch)
        except redis.RedisError as error:
            raise QueueUnavailableError(str(error)) from error

    def post(self, letters: Sequence[Letter], *, epoch: int) -> list[Posted]:
        """Put messages on their queues.

        Raises:
            QueueUnavailableError: Redis is away; a part of them may have been sent.
        """
        try:
            with self._broker.client.pipeline(transaction=False) as pipeline:
                for letter in letters:
                    self._script(
                        keys=self._keys(letter),
                        args=[
                            epoch,
                            _MARK_SECONDS if letter.is_tracked else _MARK_UNTRACKED_SECONDS,
                            letter.message_id,
                            letter.message().encode(),
                        ],
                        client=pipeline,
                    )
                posted = [Posted(answer) for answer in pipeline.execute()]
        except redis.RedisError as error:
            for letter in letters:
                MESSAGES_SENT.labels(queue=letter.queue, outcome="failed").inc()
            raise QueueUnavailableError(str(error)) from error
        for letter in letters:
            MESSAGES_SENT.labels(queue=letter.queue, outcome="sent").inc()
        return posted

    def _keys(self, letter: Letter) -> list[str]:
        namespace = self._broker.namespace
        return [
            self._epoch_key,
            f"{namespace}:fired:{letter.message_id}",
            f"{namespace}:{letter.queue}",
            f"{namespace}:{letter.queue}.msgs",
        ]
