"""The sweep of camera jobs: whose entry Redis has lost is put on the stream again.

One replica sweeps at a time. A look at Redis is not one moment: an entry that moves while it is
looked for is missed. So a job has to be missing at two looks in a row, and the row decides:
whatever was said of it meanwhile has changed its timeline or waits in the inbox, and then it is
left alone. Should a job be taken for lost that is not, its second entry does nothing: workers
drop it beside the first, and find the whole set after it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import redis
import structlog
from sqlalchemy import ColumnElement, Interval, case, exists, func, literal, select, text
from sqlalchemy.orm import Session

from headrace_common.contracts import JobKind, JobStatus
from headrace_common.contracts.cctv import MalformedEntryError, PreprocessEntry
from headrace_common.db import Database, InboxReport, Job
from headrace_common.jobs import Change, Failure, JobStore, Outcome
from headrace_common.jobs.camera_queue import add_entry
from headrace_common.jobs.cameras import camera_entry
from headrace_common.telemetry import continue_trace
from headrace_results import inbox
from headrace_results.cameras.misses import Misses
from headrace_results.cameras.recovery import (
    ENTRY_LOST,
    Action,
    LostJob,
    LostLimits,
    Recovery,
    plan_recovery,
)
from headrace_results.cameras.whereabouts import Whereabouts
from headrace_results.metrics import CAMERA_JOBS_RECOVERED

log = structlog.get_logger()

#: Advisory lock of whoever sweeps: "camera" in hex.
_SWEEP_LOCK: Final = 0x63616D657261
_BATCH: Final = 500
#: Between two batches of one round: a long backlog takes some of the server's time, not all.
_BATCH_PAUSE_SECONDS: Final = 0.05
#: Key of the metadata that counts.
REQUEUES: Final = "requeues"
_SWEPT: Final = (JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING)


class CameraSweep:
    """Goes through silent camera jobs, batch after batch."""

    def __init__(
        self,
        client: redis.Redis,
        database: Database,
        store: JobStore,
        whereabouts: Whereabouts,
        *,
        stream: str,
        limits: LostLimits,
        interval_seconds: float,
    ) -> None:
        """Make it.

        Args:
            client: adds entries.
            database: where the jobs are.
            store: changes them.
            whereabouts: knows what Redis holds.
            stream: of jobs.
            limits: when a job counts as lost.
            interval_seconds: pause between two rounds.
        """
        self._client = client
        self._database = database
        self._store = store
        self._whereabouts = whereabouts
        self._stream = stream
        self._limits = limits
        self._interval_seconds = interval_seconds
        self._after = ""
        self._misses = Misses()

    def step(self) -> float:
        """Look at the next batch, if nobody else does.

        Returns:
            Seconds until the next step: none while there is more.

        Raises:
            redis.RedisError: Redis is away, which says nothing of the entries.
        """
        with self._database.begin() as session:
            mine = text("SELECT pg_try_advisory_xact_lock(:key)")
            if not session.scalar(mine, {"key": _SWEEP_LOCK}):
                return self._interval_seconds
            silent = self._silent(session)
            held = self._whereabouts.held({job.id: job.queue_message_id for job in silent})
            for job in silent:
                if job.id not in held and self._is_lost(job):
                    self._recover(job)
        if len(silent) == _BATCH:
            self._after = silent[-1].id
            return _BATCH_PAUSE_SECONDS
        self._after = ""
        self._misses.end_round()
        return self._interval_seconds

    def _is_lost(self, job: Job) -> bool:
        """Whether a job that was not found counts as lost; a second look decides.

        One that never got onto the stream is told of its row, not of a look.
        """
        never_queued = job.status == JobStatus.QUEUING
        return never_queued or self._misses.again(job.id, job.event_sequence)

    def _silent(self, session: Session) -> Sequence[Job]:
        """Return the next jobs of which nothing was heard for too long, and nothing waits."""
        may_be_silent = case(
            *(
                (Job.status == status, literal(self._limits.silence(status), Interval))
                for status in _SWEPT
            ),
            else_=literal(timedelta(days=36_500), Interval),
        )
        return session.scalars(
            select(Job)
            .where(
                Job.kind == JobKind.CCTV_PREPROCESS,
                Job.status.in_(_SWEPT),
                Job.updated_at + may_be_silent < func.now(),
                Job.id > self._after,
                ~_told(),
            )
            .order_by(Job.id)
            .limit(_BATCH)
        ).all()

    def _recover(self, job: Job) -> None:
        entry = _entry_of(job)
        requeues = int(job.meta.get(REQUEUES, 0))
        lost = LostJob(JobStatus(job.status), requeues, readable=entry is not None)
        plan = plan_recovery(lost, self._limits)
        with continue_trace(job.trace, "recover job", job_id=job.id):
            outcomes = self._changed(job, plan, entry)
            if outcomes:
                log.warning("camera.job_recovered", action=plan.action.value, reason=plan.reason)
                CAMERA_JOBS_RECOVERED.labels(action=plan.action.value).inc()
        self._store.publish(outcomes)

    def _changed(self, job: Job, plan: Recovery, entry: PreprocessEntry | None) -> list[Outcome]:
        """Change the job unless something was said of it since we looked.

        The entry is added while the row is locked: if the commit fails, the next round finds
        the entry, and a reader that is quick waits for the row.
        """
        with self._database.begin() as session:
            current = session.scalar(
                select(Job.event_sequence).where(Job.id == job.id, ~_told()).with_for_update()
            )
            if current != job.event_sequence:
                return []
            if plan.action is Action.FAIL or entry is None:
                return self._store.apply_in(session, [_failed(job, plan)])
            entry_id = add_entry(self._client, self._stream, entry)
            return self._store.apply_in(session, [_requeued(job, plan, entry, entry_id)])


def _told() -> ColumnElement[bool]:
    """Return the condition that a report on the job waits in the inbox."""
    return exists().where(InboxReport.job_id == Job.id, inbox.waiting())


def _entry_of(job: Job) -> PreprocessEntry | None:
    try:
        return camera_entry(job.id, job.input, job.meta, job.trace, run=job.run)
    except MalformedEntryError as error:
        log.warning("camera.entry_unknown", job_id=job.id, faults=str(error)[:500])
        return None


def _failed(job: Job, plan: Recovery) -> Change:
    return Change(
        job_id=job.id,
        to=JobStatus.FAILED,
        message=f"Given up: {plan.reason}",
        failure=Failure(ENTRY_LOST, plan.reason),
    )


def _requeued(job: Job, plan: Recovery, entry: PreprocessEntry, entry_id: str) -> Change:
    status = JobStatus(job.status)
    never_queued = status is JobStatus.QUEUING
    requeues = int(job.meta.get(REQUEUES, 0)) + (not never_queued)
    stays = status is JobStatus.PROCESSING
    return Change(
        job_id=job.id,
        to=JobStatus.PROCESSING if stays else JobStatus.QUEUED,
        message=f"Put on the stream again: {plan.reason}",
        # An event of its own status, which no progress may refuse.
        progress=job.progress if stays else None,
        metadata={} if never_queued else {REQUEUES: requeues},
        data={"attempt": entry.attempt, "entry_id": entry_id},
        queue_message_id=entry_id,
        restarts_stage=True,
    )
