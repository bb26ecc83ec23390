"""What is done beside the jobs: due retries, trimming, old names, figures.

Every process does it; each step is one script, so that any number of them may.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import redis
import structlog

from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.store import StreamStore
from headrace_gpu_preprocessor.stream.watch import Watch

log = structlog.get_logger()

#: A cancelled job stops, and a paused stream goes on, so much later at most; one command each.
_WATCH_SECONDS: Final = 1.0


@dataclass
class _Chore:
    """Something to do again and again.

    Attributes:
        do: does it; may return the seconds after which it is worth doing again, if sooner.
        every: seconds between two times.
        due: monotonic time of the next.
        failing: whether it did the last time.
    """

    name: str
    do: Callable[[], Awaitable[float | None]]
    every: float
    due: float = 0.0
    failing: bool = False


class Housekeeper:
    """Does the chores of a stream, each at its own interval."""

    def __init__(
        self,
        store: StreamStore,
        settings: StreamSettings,
        *,
        watch: Watch,
        observe: Callable[[], Awaitable[None]],
        on_contact: Callable[[], None],
    ) -> None:
        """Make it.

        Args:
            store: of the stream.
            settings: the intervals.
            watch: looks for pauses and cancellations.
            observe: takes the figures.
            on_contact: called whenever the server has answered.
        """
        self._store = store
        self._settings = settings
        self._watch = watch
        self._observe = observe
        self._on_contact = on_contact
        self._chores = [
            _Chore("watch", self._look, _WATCH_SECONDS),
            _Chore("promote", self._promote, settings.redis_promote_seconds),
            _Chore("observe", self._figures, settings.redis_observe_seconds),
            _Chore("trim", self._trim, settings.redis_trim_seconds),
            _Chore("retire", self._retire, settings.redis_consumer_expiry_seconds / 4),
        ]

    async def run(self) -> None:
        """Do them until cancelled."""
        while True:
            for chore in self._chores:
                if chore.due <= time.monotonic():
                    await self._try(chore)
            next_due = min(chore.due for chore in self._chores)
            await asyncio.sleep(max(0.0, next_due - time.monotonic()))

    async def _try(self, chore: _Chore) -> None:
        sooner: float | None = None
        try:
            sooner = await chore.do()
        except (redis.RedisError, OSError) as error:
            # NOGROUP among them: the reader makes the group again. Told once, not every second.
            if not chore.failing:
                log.warning("stream.chore_failed", chore=chore.name, error=str(error))
            chore.failing = True
        except Exception:
            # Whatever it is, retries that are due must not wait for ever.
            log.exception("stream.chore_failed", chore=chore.name)
        else:
            chore.failing = False
            self._on_contact()
        pause = chore.every if sooner is None else min(sooner, chore.every)
        chore.due = time.monotonic() + pause

    async def _look(self) -> None:
        await self._watch.look()

    async def _promote(self) -> float | None:
        promoted = await self._store.promote()
        if promoted.moved or promoted.buried:
            log.info("stream.promoted", moved=promoted.moved, buried=promoted.buried)
        return promoted.next_in_seconds

    async def _figures(self) -> None:
        await self._observe()

    async def _trim(self) -> None:
        if dropped := await self._store.trim():
            log.info("stream.trimmed", entries=dropped)
        await self._store.forget_ended()
        await self._store.forget_cancelled()

    async def _retire(self) -> None:
        idle = self._settings.redis_consumer_expiry_seconds
        if removed := await self._store.retire_consumers(idle_seconds=idle):
            log.info("stream.consumers_removed", consumers=removed)
