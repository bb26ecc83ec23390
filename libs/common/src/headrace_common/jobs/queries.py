"""Reading jobs: one, a page of many, their timeline, lanes and places in them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, select, text, tuple_
from sqlalchemy.orm import Session

from headrace_common.contracts.events import JobEvent
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.db.models import Job, JobEventRow
from headrace_common.errors import NotFoundError
from headrace_common.jobs.store import event_of

#: A place further back than this is told as this: counting a long lane for every client that
#: watches it would cost more than the figure is worth.
MAX_COUNTED_PLACE: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs; every field that is set must hold.

    Attributes:
        error_code: why they failed.
        waiting_for: the dependency at fault that they wait for.
        ids: they are among these.
    """

    statuses: tuple[JobStatus, ...] = ()
    kind: JobKind | None = None
    lane: Lane | None = None
    token_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    error_code: str | None = None
    waiting_for: str | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobPage:
    """Some jobs, newest first, and the cursor of the next page if there is one."""

    jobs: list[Job]
    next_cursor: str | None


@dataclass(frozen=True)
class LaneCounts:
    """How many audio jobs of a lane wait, are worked on, and have failed."""

    waiting: int
    started: int
    failed: int


# One walk through each lane, however many jobs are asked for: counting who is ahead of each took
# seconds for a thousand clients that watch a lane of ten thousand.
_PLACES: Final = text("""
WITH wanted AS (
    SELECT id, lane FROM jobs
    WHERE id = ANY(:ids) AND status = 'queued' AND kind = 'audio_analysis'
), numbered AS (
    SELECT ahead.id, row_number() OVER (
        PARTITION BY lanes.lane ORDER BY ahead.queued_at, ahead.id
    ) AS place
    FROM (SELECT DISTINCT lane FROM wanted) AS lanes CROSS JOIN LATERAL (
        SELECT j.id, j.queued_at FROM jobs j
        WHERE j.status = 'queued' AND j.kind = 'audio_analysis' AND j.lane = lanes.lane
        ORDER BY j.queued_at, j.id LIMIT :most
    ) AS ahead
)
SELECT id, coalesce(place, :most + 1) AS place FROM wanted LEFT JOIN numbered USING (id)
""")


class JobQueries:
    """Questions about jobs, asked in a session of the caller's."""

    def __init__(self, session: Session) -> None:
        """Ask in `session`."""
        self._session = session

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: there is none with that id.
        """
        job = self._session.get(Job, job_id)
        if job is None:
            raise NotFoundError(f"no job {job_id!r}")
        return job

    def page(self, wanted: JobFilter, *, limit: int, cursor: str | None = None) -> JobPage:
        """Return up to `limit` jobs, newest first, from where `cursor` left off.

        Raises:
            BadRequestError: the cursor is not one of ours.
        """
        query = (
            select(Job).where(*_conditions(wanted)).order_by(Job.created_at.desc(), Job.id.desc())
        )
        if cursor is not None:
            query = query.where(tuple_(Job.created_at, Job.id) < tuple_(*read_cursor(cursor)))
        rows = list(self._session.scalars(query.limit(limit + 1)).all())
        more = len(rows) > limit
        return JobPage(
            rows[:limit],
            make_cursor(rows[limit - 1].created_at, rows[limit - 1].id) if more else None,
        )

    def count(self, wanted: JobFilter) -> int:
        """Return how many jobs there are."""
        return self._session.scalar(select(func.count(Job.id)).where(*_conditions(wanted))) or 0

    def events_after(self, job_id: str, sequence: int, *, limit: int = 500) -> list[JobEvent]:
        """Return what happened to a job after its event `sequence`, in order."""
        rows = self._session.scalars(
            select(JobEventRow)
            .where(JobEventRow.job_id == job_id, JobEventRow.sequence > sequence)
            .order_by(JobEventRow.sequence)
            .limit(limit)
        )
        return [event_of(row) for row in rows]

    def last_sequences(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return how many events each job has."""
        rows = self._session.execute(
            select(Job.id, Job.event_sequence).where(Job.id.in_(list(job_ids)))
        )
        return {row.id: row.event_sequence for row in rows}

    def places(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the place, from 1, that each waiting audio job has in its lane; no others."""
        rows = self._session.execute(_PLACES, {"ids": list(job_ids), "most": MAX_COUNTED_PLACE})
        return {row.id: row.place for row in rows}

    def lane_counts(self) -> dict[Lane, LaneCounts]:
        """Return the state of every lane of the audio path (A7)."""
        counted = (JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.FAILED)
        rows = self._session.execute(
            select(Job.lane, Job.status, func.count())
            .where(Job.kind == JobKind.AUDIO_ANALYSIS, Job.status.in_(counted))
            .group_by(Job.lane, Job.status)
        )
        found = {(lane, status): count for lane, status, count in rows}
        return {
            lane: LaneCounts(*(found.get((lane.value, status.value), 0) for status in counted))
            for lane in Lane
        }


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    equal = {
        Job.kind: wanted.kind,
        Job.lane: wanted.lane,
        Job.token_id: wanted.token_id,
        Job.error_code: wanted.error_code,
        Job.waiting_for: wanted.waiting_for,
    }
    found = [column == value for column, value in equal.items() if value is not None]
    if wanted.statuses:
        found.append(Job.status.in_(wanted.statuses))
    if wanted.ids:
        found.append(Job.id.in_(wanted.ids))
    if wanted.created_after is not None:
        found.append(Job.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        found.append(Job.created_at < wanted.created_before)
    return found
