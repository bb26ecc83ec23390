"""Threads for calls to S3, apart from those that serve the other endpoints."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class S3Threads:
    """A pool of its own: uploads that wait for S3 must not keep `GET /queue/status` waiting."""

    def __init__(self, size: int) -> None:
        """Make the pool; its threads start when they are first needed."""
        self._pool = ThreadPoolExecutor(max_workers=size, thread_name_prefix="s3")

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call, with the caller's log and trace context."""
        context = contextvars.copy_context()
        bound = partial(call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, bound)

    def close(self) -> None:
        """Let what runs finish and start nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
