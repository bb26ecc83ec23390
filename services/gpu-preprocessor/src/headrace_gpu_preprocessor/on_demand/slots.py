"""How many requests are under way: some run, some wait, the rest are sent away at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace_gpu_preprocessor.on_demand import metrics
from headrace_gpu_preprocessor.on_demand.errors import BusyError

_RETRY_SECONDS = 5


class Slots:
    """Counts requests. For one event loop."""

    def __init__(self, *, running: int, waiting: int, wait_seconds: float) -> None:
        """Make it.

        Args:
            running: requests that are worked on at the same time.
            waiting: further ones that are let in.
            wait_seconds: for a turn, at most.
        """
        self._most = running + waiting
        self._inside = 0
        self._turns = asyncio.Semaphore(running)
        self._wait_seconds = wait_seconds

    @asynccontextmanager
    async def inside(self) -> AsyncIterator[None]:
        """Let a request in, whose body may then be received.

        Raises:
            BusyError: there are as many as there may be.
        """
        if self._inside >= self._most:
            raise BusyError(f"{self._inside} detections are under way", retry_after=_RETRY_SECONDS)
        self._inside += 1
        metrics.INSIDE.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            metrics.INSIDE.set(self._inside)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the request may be worked on.

        Raises:
            BusyError: that took too long.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise BusyError(
                f"no turn within {self._wait_seconds:g} seconds", retry_after=_RETRY_SECONDS
            ) from None
        try:
            yield
        finally:
            self._turns.release()
