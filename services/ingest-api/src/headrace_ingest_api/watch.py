"""Beside a long upload: is its job still wanted, and does everybody know that it lives?"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, JobStore
from headrace_ingest_api.errors import UploadOvertakenError
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys

log = structlog.get_logger()

#: A cancelled upload ends so soon; also well within the life of an idempotency claim.
LOOK_SECONDS: Final = 5.0
#: A long upload tells its job's timeline that it goes on, so that no sweep takes it for dead.
SIGN_OF_LIFE_SECONDS: Final = 60.0


class UploadWatch:
    """Looks at the job every few seconds; the upload asks it before each piece."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        keys: IdempotencyKeys,
        *,
        job_id: str,
        claim: Claim | None,
    ) -> None:
        """Watch over the upload of `job_id`."""
        self._database = database
        self._store = store
        self._keys = keys
        self._job_id = job_id
        self._claim = claim
        self._status = JobStatus.UPLOADING
        self._last_sign = time.monotonic()
        self.received = 0

    def check(self) -> None:
        """Check that the job still waits for its file.

        Raises:
            UploadOvertakenError: it was cancelled, or ended otherwise.
        """
        if self._status is not JobStatus.UPLOADING:
            raise overtaken(self._job_id, self._status)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look for as long as the block runs."""
        task = asyncio.create_task(self._loop())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await run_in_threadpool(self.look)
            except SQLAlchemyError as error:
                # The upload goes on; if the database stays away its end will notice.
                log.warning("upload.not_watched", error=str(error)[:500])

    def look(self) -> None:
        """Look at the job now, and give its signs of life. Blocks."""
        if self._claim is not None:
            self._keys.renew(self._claim)
        if time.monotonic() - self._last_sign >= SIGN_OF_LIFE_SECONDS:
            self._last_sign = time.monotonic()
            self._status = self._give_sign()
            return
        with self._database.begin() as session:
            status = session.scalar(select(Job.status).where(Job.id == self._job_id))
        self._status = JobStatus(status) if status else JobStatus.FAILED

    def _give_sign(self) -> JobStatus:
        change = Change(
            job_id=self._job_id,
            to=JobStatus.UPLOADING,
            message=f"Receiving the recording, {self.received / 2**20:.0f} MiB so far",
            data={"bytes_received": self.received},
            restarts_stage=True,
        )
        return self._store.apply([change])[0].status


def overtaken(job_id: str, status: JobStatus, *, kept: bool = False) -> UploadOvertakenError:
    """Make the error of an upload whose job is no longer `uploading`.

    Args:
        job_id: the job's.
        status: the job's.
        kept: whether that is because its recording was accepted.
    """
    what = "has its recording" if kept else f"is {status}; its recording was not kept"
    return UploadOvertakenError(f"the job {what}", job_id=job_id, job_status=status.value)
