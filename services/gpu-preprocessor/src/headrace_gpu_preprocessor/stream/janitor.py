"""Removes what jobs that have ended left in Swift beside their result.

The results service says which jobs, some time after their end, and what their result is: it
alone knows for certain. A set that somebody thaws to finish long after its job was done elsewhere
is removed in this way, and so is what failed and cancelled jobs had stored. The ingest API says
which jobs are purged, and waits for the word that nothing of them is left.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from pydantic import ValidationError

from headrace_common.contracts.cctv import SettledJob
from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.stream.job import Remover
from headrace_gpu_preprocessor.stream.store import StreamStore
from headrace_gpu_preprocessor.stream.threads import call_in_thread

log = structlog.get_logger()

_BATCH: Final = 20
_PAUSE_SECONDS: Final = 1.0
#: A job is taken again by others when whoever took it has not removed its remains in this time.
_AGAIN_SECONDS: Final = 120.0


class Janitor:
    """Goes through jobs that have ended. Any number of processes may, each has others."""

    def __init__(
        self, store: StreamStore, remover: Remover, *, is_closed: Callable[[], bool]
    ) -> None:
        """Make it.

        Args:
            store: has the jobs.
            remover: removes what they left.
            is_closed: whether Swift is known to be at fault.
        """
        self._store = store
        self._remover = remover
        self._is_closed = is_closed

    async def run(self) -> None:
        """Remove until cancelled."""
        while True:
            taken: list[bytes] = []
            if not self._is_closed():
                taken = await self._store.take_settled(count=_BATCH, again_seconds=_AGAIN_SECONDS)
            for member in taken:
                if await self._is_done(member):
                    await self._store.drop_settled(member, purged=_purged(member))
            if len(taken) < _BATCH:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _is_done(self, member: bytes) -> bool:
        """Remove what a job left; whether there is nothing more to do."""
        try:
            job = SettledJob.model_validate_json(member)
        except ValidationError as error:
            log.warning("stream.settled_unreadable", faults=error.error_count())
            return True
        ended = await call_in_thread("janitor", lambda: self._remover(job, _always))
        if ended.error is None:
            return True
        expected = isinstance(ended.error, HeadraceError)
        log.warning(
            "stream.remains_stay",
            job_id=job.job_id,
            error=str(ended.error)[:500],
            exc_info=None if expected else ended.error,
        )
        return False


def _purged(member: bytes) -> str | None:
    """Return the id of a job whose row waits for it to be gone; None of others."""
    try:
        job = SettledJob.model_validate_json(member)
    except ValidationError:
        return None
    return job.job_id if job.purged else None


def _always() -> None:
    """Let everything be removed: nobody works on the job any more."""
