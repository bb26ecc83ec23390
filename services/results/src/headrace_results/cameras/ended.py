"""What Redis is told of camera jobs that have ended, by the rows, which alone know for certain.

Jobs that were cancelled, so that workers leave them alone: who cancels says so too, but Redis may
have been away, or was flushed since. And some time after their end all jobs, with the folder of
their result, so that what else their run left in Swift is removed.
"""

import time
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
        interval_seconds: float,
    ) -> None:
        """Make it; `tell` gets the rows."""
        self._client = client
        self._database = database
        self._walk = walk
        self._tell = tell
        self._mark = f"{stream}:{walk.name}:told"
        self._interval_seconds = interval_seconds
        self._after: tuple[datetime, str] | None = None
        self._upto = datetime.min.replace(tzinfo=UTC)
        self._due = 0.0

    def step(self) -> float:
        """Tell of the next jobs, if it is time.

        Returns:
            Seconds until the next step: none while there is more.

        Raises:
            redis.RedisError: Redis is away.
        """
        if (left := self._due - time.monotonic()) > 0:
            return left
        after = self._after or self._begun_round()
        with self._database.begin() as session:
            jobs = session.scalars(
                select(Job)
                .where(
                    Job.kind == JobKind.CCTV_PREPROCESS,
                    Job.status.in_(self._walk.statuses),
                    tuple_(Job.finished_at, Job.id) > after,
                    Job.finished_at <= self._upto,
                )
                .order_by(Job.finished_at, Job.id)
                .limit(_BATCH)
                .with_for_update(read=True, skip_locked=True)
            ).all()
            self._tell(jobs)
            last = (jobs[-1].finished_at, jobs[-1].id) if len(jobs) == _BATCH else None
        if last is not None and last[0] is not None:
            self._after = (last[0], last[1])
            return 0.0
        self._after = None
        # Only if it is there: a server that was flushed during the round begins at the beginning.
        self._client.set(self._mark, self._upto.isoformat(), xx=True)
        self._due = time.monotonic() + self._interval_seconds
        return self._interval_seconds

    def _begun_round(self) -> tuple[datetime, str]:
        with self._database.begin() as session:
            now = session.scalars(select(func.now())).one()
        self._upto = now - self._walk.after
        mark: Any = self._client.get(self._mark)
        since = self._upto - self._walk.history if mark is None else _moment(mark)
        if mark is None:
            self._client.set(self._mark, since.isoformat(), nx=True)
        overlap = max(_OVERLAP - self._walk.after, timedelta(0))
        return since - overlap, ""


class Suspects:
    """Looks at jobs of which a worker may have stored something after they had ended."""

    def __init__(
        self,
        client: redis.Redis,
        database: Database,
        tell: Tell,
        *,
        stream: str,
        interval_seconds: float,
    ) -> None:
        """Make it; `tell` gets those that have ended. The others are told at their end."""
        self._client = client
        self._database = database
        self._tell = tell
        self._key = f"{stream}{SUSPECTS_SUFFIX}"
        self._interval_seconds = interval_seconds

    def step(self) -> float:
        """Look at some.

        Returns:
            Seconds until the next step.

        Raises:
            redis.RedisError: Redis is away.
        """
        members: Any = self._client.srandmember(self._key, _BATCH)
        if members:
            ids = [member.decode(errors="replace") for member in members]
            with self._database.begin() as session:
                final = [status for status in JobStatus if status.is_final]
                query = select(Job).where(Job.id.in_(ids), Job.status.in_(final))
                self._tell(session.scalars(query.with_for_update(read=True)).all())
            self._client.srem(self._key, *members)
        return self._interval_seconds


def tell_cancelled(client: redis.Redis, stream: str) -> Tell:
    """Return what tells workers of cancelled jobs."""
    return lambda jobs: cancel_jobs(client, stream, {job.id: job.run for job in jobs})


def tell_settled(client: redis.Redis, stream: str) -> Tell:
    """Return what has the remains of jobs removed at once."""

    def tell(jobs: Sequence[Job]) -> None:
        told = [settled for job in jobs if (settled := settled_job(job)) is not None]
        members: dict[Any, Any] = {each.model_dump_json(): 0 for each in told}
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
