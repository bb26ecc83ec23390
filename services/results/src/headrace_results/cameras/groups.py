"""A reader of one Redis stream in a consumer group: nothing is lost, whoever of many dies."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import redis
import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = structlog.get_logger()

#: What says that the database is away or full, and that nothing is wrong with the entries.
DATABASE_AWAY: Final = (OperationalError, InterfaceError, PoolTimeoutError)
#: Consumers that are silent for so long and hold nothing are removed.
_EXPIRED_MS: Final = 3_600_000
#: A consumer that is removed loses what it holds, so looking and removing are one step.
#: KEYS: stream. ARGV: group, idle ms. Answer: the names removed.
_RETIRE: Final = """
local removed = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
"""


@dataclass(frozen=True)
class StreamEntry:
    """An entry as it came."""

    id: str
    fields: dict[bytes, bytes]


#: Makes the entries durable and acknowledges them; raises where it can not, and gets them again.
Take = Callable[[Sequence[StreamEntry]], None]


def consumer_name() -> str:
    """Return a name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"


class GroupReader:
    """Reads what is ours and pending first, then what the dead left, then what is new.

    For one thread, with a client of its own whose time-out is longer than a read may block.
    """

    def __init__(
        self,
        client: redis.Redis,
        take: Take,
        *,
        stream: str,
        group: str,
        wait_seconds: float,
        claim_seconds: float,
        batch: int = 100,
    ) -> None:
        """Make it; the group is made where it is missing, with all that is in the stream.

        Args:
            client: reads and claims.
            take: what happens with entries.
            stream: key of the stream.
            group: name of the consumer group.
            wait_seconds: that one read waits for entries.
            claim_seconds: a consumer that holds an entry for so long is taken for dead.
            batch: entries of one read.
        """
        self._client = client
        self._take = take
        self._stream = stream
        self._group = group
        self._consumer = consumer_name()
        self._wait_ms = int(wait_seconds * 1_000)
        self._claim_seconds = claim_seconds
        self._batch = batch
        self._has_group = False
        self._has_pending = False
        self._claim_cursor = "0-0"
        self._claim_at = 0.0

    def step(self) -> float:
        """Take one batch; then at once the next.

        Raises:
            redis.RedisError: the server is away.
            Exception: what `take` raises; the batch comes again.
        """
        try:
            entries = self._read()
        except redis.ResponseError as error:
            if not _group_is_gone(error):
                raise
            log.warning("stream.group_missing", stream=self._stream, group=self._group)
            self._has_group = False
            return 0.0
        except redis.RedisError:
            # Entries may have been handed to us whose answer was lost.
            self._has_pending = True
            raise
        if entries:
            # Until they are acknowledged they are pending; a failure leaves them so.
            self._has_pending = True
            self._take(entries)
        return 0.0

    def _read(self) -> list[StreamEntry]:
        if not self._has_group:
            self._make_group()
        if self._has_pending:
            if pending := self._read_group("0", block_ms=None):
                return pending
            self._has_pending = False
        if time.monotonic() >= self._claim_at and (claimed := self._claim()):
            return claimed
        return self._read_group(">", block_ms=self._wait_ms)

    def _make_group(self) -> None:
        try:
            self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._has_group = True

    def _read_group(self, after: str, *, block_ms: int | None) -> list[StreamEntry]:
        answer: Any = self._client.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=self._batch, block=block_ms
        )
        return self._entries([entry for _, entries in answer or [] for entry in entries])

    def _claim(self) -> list[StreamEntry]:
        """Take entries over whose consumer is dead; look again only when there are no more."""
        answer: Any = self._client.xautoclaim(
            self._stream,
            self._group,
            self._consumer,
            min_idle_time=int(self._claim_seconds * 1_000),
            start_id=self._claim_cursor,
            count=self._batch,
        )
        self._claim_cursor = answer[0].decode()
        if self._claim_cursor == "0-0":
            self._claim_at = time.monotonic() + self._claim_seconds / 2
            self._retire()
        entries = self._entries(answer[1])
        if entries:
            log.info("stream.taken_over", stream=self._stream, entries=len(entries))
        return entries

    def _retire(self) -> None:
        args = (self._group, str(_EXPIRED_MS))
        removed: Any = self._client.eval(_RETIRE, 1, self._stream, *args)
        if removed:
            log.info("stream.consumers_retired", stream=self._stream, count=len(removed))

    def _entries(self, rows: list[Any]) -> list[StreamEntry]:
        """Read entries; one that was deleted while it was pending is only acknowledged."""
        gone = [row[0] for row in rows if row[0] is not None and not row[1]]
        if gone:
            self._client.xack(self._stream, self._group, *gone)
            log.warning("stream.entries_deleted", stream=self._stream, count=len(gone))
        return [StreamEntry(row[0].decode(), row[1]) for row in rows if row[0] and row[1]]


def _group_is_gone(error: redis.ResponseError) -> bool:
    """Whether stream or group vanished: flushed, perhaps while a read was waiting."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))
