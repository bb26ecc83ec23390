"""What Redis is told of camera jobs that have ended, by the rows, which alone know for certain.

Jobs that were cancelled, so that workers leave them alone: who cancels says so too, but Redis may
have been away, or was flushed since. And some time after their end all jobs, with the folder of
their result, so that what else their run left in Swift is removed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis
import structlog
from pydantic import ValidationError
from sqlalchemy import func, select, tuple_

from headrace_common.contracts import JobKind, JobStatus
from headrace_common.contracts.cctv import (
    SETTLED_SUFFIX,
    SUSPECTS_SUFFIX,
    CctvResult,
    SettledJob,
    run_of_folder,
)
from headrace_common.db import Database, Job
from headrace_common.jobs.camera_queue import cancel_jobs
from headrace_common.shifts import Shift

log = structlog.get_logger()

_BATCH: Final = 500
#: What commits so much later than it says is still seen.
_OVERLAP: Final = timedelta(seconds=60)
#: Where Redis does not know how far the rows were gone through, so much is gone through again.
CANCELLED_HISTORY: Final = timedelta(days=7)
SETTLED_HISTORY: Final = timedelta(days=1)

#: Tells Redis of jobs, whose rows are locked against being begun anew.
Tell = Callable[[Sequence[Job]], None]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Which rows are gone through.

    Attributes:
        name: says in Redis how far, after the stream's.
        statuses: of the jobs.
        after: of their end they are told.
        history: so far back at most.
    """

    name: str
    statuses: frozenset[JobStatus]
    after: timedelta
    history: timedelta


class EndedJobs:
    """Goes through the jobs that have ended, in the order of their end.

    How far is kept in Redis, so that one which was flushed is told again. Any number of replicas
    may do it: what is told twice changes nothing.
    """

    def __init__(
        self,
        client: redis.Redis,
        database: Database,
        walk: Walk,
        tell: Tell,
        *,
        stream: str,
    ) -> None:
        """Make it; `tell` gets the rows."""
        self._client = client
        self._database = database
        self._walk = walk
        self._tell = tell
        self._mark = f"{stream}:{walk.name}:told"

    def run(self, shift: Shift) -> int:
        """Tell of those that have ended since the last time, and return how many these are.

        Raises:
            redis.RedisError: Redis is away.
        """
        after, upto = self._span()
        told = 0
        while True:
            jobs = self._told(after, upto)
            told += len(jobs)
            finished_at = jobs[-1].finished_at if jobs else None
            if len(jobs) < _BATCH or finished_at is None:
                self._note(upto)
                return told
            if shift.is_over():
                self._note(finished_at)
                return told
            after = finished_at, jobs[-1].id

    def _told(self, after: tuple[datetime, str], upto: datetime) -> Sequence[Job]:
        """Tell of the next jobs, and return them."""
        with self._database.begin() as session:
            jobs = session.scalars(
                select(Job)
                .where(
                    Job.kind == JobKind.CCTV_PREPROCESS,
                    Job.status.in_(self._walk.statuses),
                    tuple_(Job.finished_at, Job.id) > after,
                    Job.finished_at <= upto,
                )
                .order_by(Job.finished_at, Job.id)
                .limit(_BATCH)
                .with_for_update(read=True, skip_locked=True)
            ).all()
            self._tell(jobs)
        return jobs

    def _note(self, upto: datetime) -> None:
        # Only if it is there: a server that was flushed meanwhile begins at the beginning.
        self._client.set(self._mark, upto.isoformat(), xx=True)

    def _span(self) -> tuple[tuple[datetime, str], datetime]:
        """Return after which job, and up to which end, there may be something to tell."""
        with self._database.begin() as session:
            now = session.scalars(select(func.now())).one()
        upto = now - self._walk.after
        mark: Any = self._client.get(self._mark)
        since = upto - self._walk.history if mark is None else _moment(mark)
        if mark is None:
            self._client.set(self._mark, since.isoformat(), nx=True)
        overlap = max(_OVERLAP - self._walk.after, timedelta(0))
        return (since - overlap, ""), upto


class Suspects:
    """Looks at jobs of which a worker may have stored something after they had ended."""

    def __init__(
        self,
        client: redis.Redis,
        database: Database,
        tell: Tell,
        *,
        stream: str,
    ) -> None:
        """Make it; `tell` gets those that have ended. The others are told at their end."""
        self._client = client
        self._database = database
        self._tell = tell
        self._key = f"{stream}{SUSPECTS_SUFFIX}"

    def run(self, shift: Shift) -> int:
        """Look at all of them, and return how many there were.

        Raises:
            redis.RedisError: Redis is away.
        """
        looked_at = 0
        final = [status for status in JobStatus if status.is_final]
        while True:
            members: Any = self._client.srandmember(self._key, _BATCH)
            if not members:
                return looked_at
            ids = [member.decode(errors="replace") for member in members]
            with self._database.begin() as session:
                query = select(Job).where(Job.id.in_(ids), Job.status.in_(final))
                self._tell(session.scalars(query.with_for_update(read=True)).all())
            self._client.srem(self._key, *members)
            looked_at += len(members)
            if shift.is_over():  # at its end, so that one which others have used up does some
                return looked_at


def tell_cancelled(client: redis.Redis, stream: str) -> Tell:
    """Return what tells workers of cancelled jobs."""
    return lambda jobs: cancel_jobs(client, stream, {job.id: job.run for job in jobs})


def tell_settled(client: redis.Redis, stream: str) -> Tell:
    """Return what has the remains of jobs removed at once."""

    def tell(jobs: Sequence[Job]) -> None:
        told = [settled for job in jobs if (settled := settled_job(job)) is not None]
        members: dict[Any, Any] = {each.model_dump_json(exclude_defaults=True): 0 for each in told}
        if members:
            client.zadd(f"{stream}{SETTLED_SUFFIX}", members, nx=True)

    return tell


def settled_job(job: Job) -> SettledJob | None:
    """Return which of a job's sets is to be kept; None where that cannot be known."""
    folder: str | None = None
    try:
        if job.status == JobStatus.COMPLETED:
            folder = CctvResult.model_validate(job.result).folder
            if run_of_folder(folder) != job.run:
                return None
        return SettledJob(
            job_id=job.id, cctv_id=job.input.get("cctv_id"), run=job.run, folder=folder
        )
    except ValidationError as error:
        log.info("camera.remains_unknown", job_id=job.id, faults=error.error_count())
        return None


def _moment(mark: bytes) -> datetime:
    """Read how far was told; what cannot be read is before all."""
    try:
        return datetime.fromisoformat(mark.decode())
    except ValueError:
        return datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
