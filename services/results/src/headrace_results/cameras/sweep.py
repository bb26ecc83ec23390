"""The sweep of camera jobs: whose entry Redis has lost is put on the stream again.

One replica sweeps at a time. A look at Redis is not one moment: an entry that moves while it is
looked for is missed. So a job has to be missing at two looks, and the row decides: whatever was
said of it meanwhile has changed its timeline or waits in the inbox, and then it is left alone.
Should a job be taken for lost that is not, its second entry does nothing: workers drop it beside
the first, and find the whole set after it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

import redis
import structlog
from opentelemetry.trace import SpanKind
from pydantic import JsonValue
from sqlalchemy import ColumnElement, Interval, Select, case, exists, func, literal, select

from headrace_common.contracts import JobKind, JobStatus
from headrace_common.contracts.cctv import MalformedEntryError, PreprocessEntry
from headrace_common.db import Database, InboxReport, Job
from headrace_common.jobs import Change, Failure, JobStore, Outcome
from headrace_common.jobs.camera_queue import add_entry
from headrace_common.jobs.cameras import camera_entry
from headrace_common.shifts import Shift
from headrace_common.telemetry import continue_trace
from headrace_results import inbox
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
#: Who sweeps and is silent for so long, frozen for instance, loses its turn.
_SILENT_SECONDS: Final = 60.0
#: Between the two looks that say that an entry is lost.
_BETWEEN_LOOKS_SECONDS: Final = 1.0
#: Between two batches of one round: a long backlog takes some of the server's time, not all.
_BATCH_PAUSE_SECONDS: Final = 0.05
#: Jobs that are looked for a second time in one shift: that is done however long the first took,
#: else a backlog that takes a whole shift to look through would keep all of them lost.
_MOST_MISSING: Final = 5_000
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
    ) -> None:
        """Make it.

        Args:
            client: adds entries.
            database: where the jobs are.
            store: changes them.
            whereabouts: knows what Redis holds.
            stream: of jobs.
            limits: when a job counts as lost.
        """
        self._client = client
        self._database = database
        self._store = store
        self._whereabouts = whereabouts
        self._stream = stream
        self._limits = limits
        self._after = ""

    def run(self, shift: Shift) -> dict[str, JsonValue]:
        """Look at every silent job, if nobody else does, and return what was done.

        Raises:
            redis.RedisError: Redis is away, which says nothing of the entries.
            sqlalchemy.exc.SQLAlchemyError: Postgres is, or gave the turn to another.
        """
        done: Counter[str] = Counter()
        with self._database.alone(_SWEEP_LOCK, silent_seconds=_SILENT_SECONDS) as alive:
            if alive is None:
                return {"under_way": True}
            missing = self._first_look(shift, alive, done)
            if missing:
                shift.wait(_BETWEEN_LOOKS_SECONDS)
                self._second_look(missing, shift, alive, done)
        return {action.value: done[action] for action in Action}

    def _first_look(
        self, shift: Shift, alive: Callable[[], None], done: Counter[str]
    ) -> dict[str, int]:
        """Return the jobs that are nowhere, with the number of their newest event.

        One that never got onto the stream is told of its row: no second look is needed.
        """
        missing: dict[str, int] = {}
        for jobs in self._batches(shift):
            alive()
            for job in jobs:
                if job.status == JobStatus.QUEUING:
                    self._recover(job, done)
                else:
                    missing[job.id] = job.event_sequence
            if len(missing) >= _MOST_MISSING:
                break
        return missing

    def _batches(self, shift: Shift) -> Iterator[list[Job]]:
        """Go through the silent jobs, and yield those that Redis does not hold."""
        while True:
            with self._database.begin() as session:
                query = self._silent().where(Job.id > self._after).order_by(Job.id).limit(_BATCH)
                silent = session.scalars(query).all()
            yield self._not_held(silent)
            self._after = silent[-1].id if len(silent) == _BATCH else ""
            if not self._after or shift.is_over():
                return
            shift.pause(_BATCH_PAUSE_SECONDS)

    def _second_look(
        self,
        missing: Mapping[str, int],
        shift: Shift,
        alive: Callable[[], None],
        done: Counter[str],
    ) -> None:
        ids = list(missing)
        for start in range(0, len(ids), _BATCH):
            if shift.is_stopped():
                return
            alive()
            with self._database.begin() as session:
                query = self._silent().where(Job.id.in_(ids[start : start + _BATCH]))
                silent = session.scalars(query).all()
            unchanged = [job for job in silent if job.event_sequence == missing[job.id]]
            for job in self._not_held(unchanged):
                self._recover(job, done)

    def _not_held(self, jobs: Sequence[Job]) -> list[Job]:
        held = self._whereabouts.held({job.id: job.queue_message_id for job in jobs})
        return [job for job in jobs if job.id not in held]

    def _silent(self) -> Select[Job]:
        """Return the query for jobs of which nothing was heard for too long, and nothing waits."""
        may_be_silent = case(
            *(
                (Job.status == status, literal(self._limits.silence(status), Interval))
                for status in _SWEPT
            ),
            else_=literal(timedelta(days=36_500), Interval),
        )
        return select(Job).where(
            Job.kind == JobKind.CCTV_PREPROCESS,
            Job.status.in_(_SWEPT),
            Job.updated_at + may_be_silent < func.now(),
            ~_told(),
        )

    def _recover(self, job: Job, done: Counter[str]) -> None:
        entry = _entry_of(job)
        requeues = int(job.meta.get(REQUEUES, 0))
        lost = LostJob(JobStatus(job.status), requeues, readable=entry is not None)
        plan = plan_recovery(lost, self._limits)
        with continue_trace(job.trace, "recover job", kind=SpanKind.INTERNAL, job_id=job.id):
            outcomes = self._changed(job, plan, entry)
            if outcomes:
                log.warning("camera.job_recovered", action=plan.action.value, reason=plan.reason)
                CAMERA_JOBS_RECOVERED.labels(action=plan.action.value).inc()
                done[plan.action] += 1
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
