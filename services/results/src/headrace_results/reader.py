"""Database questions of event streams, asked from asyncio in a bounded number of threads."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.contracts import JobEvent, JobStatus, Lane
from headrace_common.db import Database, Job
from headrace_common.errors import NotFoundError
from headrace_common.jobs import JobQueries

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class JobHead:
    """What a stream needs to know of its job to begin."""

    status: JobStatus
    last_sequence: int


@dataclass(frozen=True)
class Place:
    """Where a job waits: its lane, and its place in it from 1."""

    lane: Lane
    number: int


class JobReader:
    """Asks the database, a few questions at a time however many streams there are."""

    def __init__(self, database: Database, *, threads: int) -> None:
        """Ask `database` in at most `threads` threads."""
        self._database = database
        self._limiter = anyio.CapacityLimiter(threads)

    async def head(self, job_id: str) -> JobHead:
        """Return where a job is.

        Raises:
            NotFoundError: there is no such job.
        """
        return await self._ask(lambda session: _head(session, job_id))

    async def events_after(self, job_id: str, sequence: int, *, limit: int) -> list[JobEvent]:
        """Return up to `limit` events of a job after `sequence`, in order."""
        return await self._ask(
            lambda session: JobQueries(session).events_after(job_id, sequence, limit=limit)
        )

    async def last_sequences(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return how many events each job has; jobs that were purged are left out."""
        return await self._ask(lambda session: JobQueries(session).last_sequences(job_ids))

    async def places(self, job_ids: Collection[str]) -> dict[str, Place]:
        """Return where each job waits; those that do not are left out."""
        return await self._ask(lambda session: _places(session, job_ids))

    async def _ask(self, question: Callable[[Session], Answer]) -> Answer:
        def ask() -> Answer:
            with self._database.begin() as session:
                return question(session)

        return await to_thread.run_sync(ask, limiter=self._limiter)


def _head(session: Session, job_id: str) -> JobHead:
    row = session.execute(
        select(Job.status, Job.event_sequence).where(Job.id == job_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no job {job_id!r}")
    return JobHead(JobStatus(row.status), row.event_sequence)


def _places(session: Session, job_ids: Collection[str]) -> dict[str, Place]:
    numbers = JobQueries(session).places(job_ids)
    lanes = session.execute(select(Job.id, Job.lane).where(Job.id.in_(list(numbers))))
    return {row.id: Place(Lane(row.lane), numbers[row.id]) for row in lanes}
