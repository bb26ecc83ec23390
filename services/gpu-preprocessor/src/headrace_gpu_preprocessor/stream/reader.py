"""New entries: a blocking read on a connection of its own, which can be woken."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import redis
import structlog

from headrace_gpu_preprocessor.stream.connections import reader_client
from headrace_gpu_preprocessor.stream.deliveries import Delivery, Hold
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.store import StreamStore

log = structlog.get_logger()

#: Between two calls to wake a read: the first may come before the server has begun to block.
_WAKE_SECONDS: Final = 0.05


@dataclass(frozen=True)
class ReadAnswer:
    """Entries that were handed out, and the monotonic time at which they were asked for."""

    deliveries: list[Delivery]
    asked_at: float


class BlockingReader:
    """One connection that waits for entries of the group that nobody has had."""

    def __init__(self, settings: StreamSettings, store: StreamStore) -> None:
        """Read by `settings`; `store` sends what wakes a read, over another connection."""
        self._settings = settings
        self._store = store
        self._client = reader_client(settings)
        self._client_id: int | None = None
        #: Entries that the read under way may bring; 0 while none is.
        self.asking = 0

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            self._client_id = int(await self._client.client_id())
        except redis.ResponseError as error:
            # An access list may forbid it; a read then ends by its time only.
            log.warning("stream.client_id_refused", error=str(error))
        except BaseException:
            await self._client.aclose()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Disconnect, a read under way included."""
        await self._client.aclose()

    async def read(self, count: int) -> ReadAnswer:
        """Wait up to REDIS_BLOCK_MS for up to `count` new entries."""
        settings = self._settings
        asked_at = time.monotonic()
        self.asking = count
        try:
            answer: Any = await self._client.xreadgroup(
                settings.redis_group,
                settings.consumer_name,
                {settings.redis_stream: ">"},
                count=count,
                block=settings.redis_block_ms,
            )
        finally:
            self.asking = 0
        return ReadAnswer(
            [
                Delivery(Hold(entry_id.decode(), 1), fields or {})
                for _stream, entries in answer or []
                for entry_id, fields in entries
            ],
            asked_at,
        )

    async def wake(self, most: Callable[[], int]) -> None:
        """Make a read return now that may bring more than `most`; not one that follows it."""
        while self.asking > most() and self._client_id is not None:
            with contextlib.suppress(redis.RedisError, OSError):  # then the read fails too
                await self._store.unblock(self._client_id)
            await asyncio.sleep(_WAKE_SECONDS)
