"""The one place where a job changes: guarded transitions that write their own history.

A change is one statement that updates the row only where its present status allows, and adds
the event in the same transaction. What comes late, twice or out of order therefore changes
nothing; it is recorded as an `ignored` event.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common.contracts.events import EventType, JobEvent
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db.engine import Database
from headrace_common.db.models import Job, JobEventRow
from headrace_common.errors import NotFoundError
from headrace_common.jobs.changes import Change, NewJob, Outcome, distinct_jobs
from headrace_common.jobs.durations import Moved, observe
from headrace_common.jobs.events import EventPublisher
from headrace_common.jobs.states import HOLDABLE, PROGRESS, TELL_PROGRESS
from headrace_common.telemetry.metrics import TRANSITIONS
from headrace_common.telemetry.trace import current_trace, note_job, note_status

#: Ignored events a job may collect. A sender that repeats itself for ever must not fill the
#: database; the inbox still counts every delivery.
_MAX_IGNORED_EVENTS: Final = 200


# One statement: the guard, the row and its event. `stage_entered_at` and `deliveries` belong
# to the stage, so they start again when the status changes.
_TRANSITION: Final = text("""
WITH change AS (
    SELECT * FROM jsonb_to_recordset(CAST(:changes AS jsonb)) AS c (
        job_id text, target text, allowed jsonb, type text, progress smallint, message text,
        metadata jsonb, data jsonb, input jsonb, result jsonb, error_code text,
        error_message text, queue_message_id text, transport text, lane text,
        is_final boolean, takes_up boolean, restarts boolean, starts_run boolean,
        retry_at timestamptz, waiting_for text, run_at timestamptz, only_run int
    )
), changed AS (
    UPDATE jobs j SET
        status = c.target,
        progress = CASE WHEN c.starts_run THEN c.progress
            ELSE greatest(j.progress, c.progress) END,
        message = c.message,
        metadata = j.metadata || c.metadata,
        input = j.input || c.input,
        result = coalesce(c.result, j.result),
        error_code = CASE WHEN NOT c.starts_run
            THEN coalesce(c.error_code, j.error_code) END,
        error_message = CASE WHEN NOT c.starts_run
            THEN coalesce(c.error_message, j.error_message) END,
        queue_message_id = coalesce(c.queue_message_id, j.queue_message_id),
        run = j.run + c.starts_run::int,
        retry_at = c.retry_at,
        waiting_for = c.waiting_for,
        run_at = coalesce(c.run_at, j.run_at),
        transport = CASE WHEN c.starts_run THEN c.transport
            ELSE coalesce(c.transport, j.transport) END,
        sent_at = CASE WHEN c.starts_run THEN NULL
            WHEN c.takes_up AND c.target = 'queued_for_analysis'
            THEN coalesce(j.sent_at, clock_timestamp()) ELSE j.sent_at END,
        discard_at = CASE WHEN c.is_final AND j.status = 'uploading'
            THEN clock_timestamp() ELSE j.discard_at END,
        lane = coalesce(c.lane, j.lane),
        event_sequence = j.event_sequence + 1,
        deliveries = CASE WHEN j.status = c.target AND NOT c.starts_run
            THEN j.deliveries ELSE 0 END
            + c.takes_up::int,
        stage_entered_at = CASE WHEN j.status = c.target AND NOT c.restarts
            THEN j.stage_entered_at ELSE clock_timestamp() END,
        queued_at = CASE WHEN c.target = 'queued' AND (j.status <> 'queued' OR c.starts_run)
            THEN clock_timestamp() ELSE j.queued_at END,
        updated_at = clock_timestamp(),
        finished_at = CASE WHEN c.is_final THEN clock_timestamp() END,
        retain_until = CASE WHEN c.is_final
            THEN clock_timestamp() + make_interval(secs => :retention_seconds) END
    FROM change c
    WHERE j.id = c.job_id
      AND c.allowed ? j.status
      AND (c.only_run IS NULL OR c.only_run = j.run)
      AND (c.type <> 'progress' OR c.progress >= j.progress)
    RETURNING j.id, j.event_sequence, c.type, j.status, j.progress, j.message,
        c.data || c.metadata AS data, j.updated_at, j.deliveries, j.kind, j.lane,
        extract(epoch FROM j.updated_at - coalesce(j.queued_at, j.created_at)) AS run_seconds,
        -- As the statement found it; under a race a little older, which is well for a metric.
        (SELECT jsonb_build_array(
            was.status, extract(epoch FROM j.updated_at - was.stage_entered_at)
        ) FROM jobs was WHERE was.id = j.id) AS was
), noted AS (
    INSERT INTO job_events (job_id, sequence, type, status, progress, message, data, created_at)
    SELECT id, event_sequence, type, status, progress, message, data, updated_at FROM changed
)
SELECT id, event_sequence, type, status, progress, message, data, updated_at, deliveries,
    kind, lane, run_seconds, was
FROM changed
""")


class JobStore:
    """Creates jobs and changes them."""

    def __init__(
        self, database: Database, publisher: EventPublisher, *, retention: timedelta
    ) -> None:
        """Make the store.

        Args:
            database: where jobs are kept.
            publisher: told of every event after its commit.
            retention: how long finished jobs are kept.
        """
        self._database = database
        self._publisher = publisher
        self._retention_seconds = retention.total_seconds()

    def create(self, new: NewJob) -> JobEvent:
        """Create a job with the first entry of its timeline."""
        with self._database.begin() as session:
            event = self.create_in(session, new)
        self._publisher.publish([event])
        return event

    def create_in(self, session: Session, new: NewJob) -> JobEvent:
        """Create a job in a transaction of the caller's, who publishes after its commit."""
        job = Job(**_first_values(new))
        session.add(job)
        session.flush()
        return _add_event(session, job, EventType.STATUS, new.message, {})

    def create_missing_in(self, session: Session, new: NewJob) -> JobEvent | None:
        """Create a job unless it is there; None if it is.

        Any number of processes may try: one creates it, and the others wait for its commit.
        """
        created = session.scalar(
            insert(Job).values(_first_values(new)).on_conflict_do_nothing().returning(Job)
        )
        if created is None:
            return None
        return _add_event(session, created, EventType.STATUS, new.message, {})

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make `changes` in one transaction, and tell of them after its commit.

        Returns:
            One outcome a change, in their order.

        Raises:
            NotFoundError: a job does not exist; then nothing is changed.
        """
        with self._database.begin() as session:
            outcomes = self.apply_in(session, changes)
        self.publish(outcomes)
        return outcomes

    def apply_in(self, session: Session, changes: Sequence[Change]) -> list[Outcome]:
        """Make `changes` in a transaction of the caller's, who publishes after its commit."""
        if len(changes) > 1:
            # Always locked in the order of their ids: two batches cannot deadlock.
            ids = sorted({change.job_id for change in changes})
            session.execute(
                select(Job.id).where(Job.id.in_(ids)).order_by(Job.id).with_for_update()
            )
        applied: dict[int, Outcome] = {}
        for group in distinct_jobs(changes):
            rows = session.execute(
                _TRANSITION,
                {
                    "changes": _as_json([changes[index] for index in group]),
                    "retention_seconds": self._retention_seconds,
                },
            ).all()
            by_id = {row.id: row for row in rows}
            for index in group:
                if row := by_id.get(changes[index].job_id):
                    applied[index] = _applied(row)
        return [
            applied.get(index) or self._refused(session, change)
            for index, change in enumerate(changes)
        ]

    def hold(
        self,
        job_id: str,
        *,
        until: datetime,
        waiting_for: str,
        message: str,
        gives_back: bool = True,
        only_run: int | None = None,
    ) -> bool:
        """Let a job wait because a dependency is at fault, which costs it none of its tries.

        Its status stays; the delivery under way, if one was counted, is given back. Only the
        first of several holds in a row is told in the timeline, so that a long outage does not
        fill it.

        Args:
            job_id: of an open job that has not been sent.
            until: when it is to be tried again.
            waiting_for: the dependency.
            message: for people.
            gives_back: whether a delivery was counted for the try that this ends.
            only_run: see `Change`.

        Returns:
            Whether it waits; not if it has gone on or ended meanwhile.
        """
        event = None
        with self._database.begin() as session:
            job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
            if job is None or JobStatus(job.status) not in HOLDABLE:
                return False
            if only_run not in {None, job.run}:
                return False
            first = job.waiting_for != waiting_for
            job.retry_at, job.waiting_for = until, waiting_for
            job.stage_entered_at = job.updated_at = func.clock_timestamp()
            if gives_back and job.status == JobStatus.PROCESSING:
                job.deliveries = max(job.deliveries - 1, 0)
            if first:
                job.message = message
                job.event_sequence += 1
                data: dict[str, JsonValue] = {"waiting_for": waiting_for}
                event = _add_event(session, job, EventType.STATUS, message, data)
        self._publisher.publish([event] if event else [])
        return True

    def publish_events(self, events: Sequence[JobEvent]) -> None:
        """Tell of jobs that were created; to be called after the commit."""
        self._publisher.publish(events)

    def publish(self, outcomes: Sequence[Outcome]) -> None:
        """Tell of what committed changes did; to be called after the commit."""
        for outcome in outcomes:
            result = "applied" if outcome.applied else "ignored"
            TRANSITIONS.labels(status=outcome.status, outcome=result).inc()
            if outcome.applied and outcome.event is not None:
                note_status(outcome.event.job_id, outcome.status)
            if outcome.moved is not None:
                observe(outcome.moved, outcome.status)
        self._publisher.publish(outcome.event for outcome in outcomes if outcome.event)

    def _refused(self, session: Session, change: Change) -> Outcome:
        """Record a change that its guard refused."""
        job = session.scalar(select(Job).where(Job.id == change.job_id).with_for_update())
        if job is None:
            raise NotFoundError(f"no job {change.job_id!r}")
        session.refresh(job)
        if change.metadata:
            session.execute(
                update(Job)
                .where(Job.id == job.id)
                .values({Job.meta: Job.meta.op("||")(change.metadata)})
            )
        if not JobStatus(job.status).is_final:
            # Whoever says something of an open job, even late, lives.
            job.updated_at = func.clock_timestamp()
        event = None
        if job.event_sequence < _MAX_IGNORED_EVENTS:
            job.event_sequence += 1
            message = f"Ignored, came too late: {change.message or change.to}"
            data: dict[str, JsonValue] = {
                **change.data,
                **change.metadata,
                "ignored_status": change.to.value,
            }
            event = _add_event(session, job, EventType.IGNORED, message, data)
        return Outcome(
            job.id,
            applied=False,
            status=JobStatus(job.status),
            deliveries=job.deliveries,
            event=event,
        )


def _first_values(new: NewJob) -> dict[Any, Any]:
    """Return the columns of a new row."""
    note_job(new.id)
    return {
        "id": new.id,
        "kind": new.kind,
        "status": new.status,
        "progress": PROGRESS[new.status],
        "message": new.message,
        "lane": new.lane,
        "token_id": new.token_id,
        "created_by": new.created_by,
        "input": new.input,
        "queue_message_id": new.queue_message_id,
        "queued_at": func.clock_timestamp() if new.status is JobStatus.QUEUED else None,
        "trace": current_trace(),
        "event_sequence": 1,
    }


def _as_json(changes: Sequence[Change]) -> str:
    return json.dumps([_as_record(change) for change in changes])


def _as_record(change: Change) -> dict[str, Any]:
    event_type = EventType.STATUS
    if change.starts_run:
        event_type = EventType.RESTARTED
    elif change.to in TELL_PROGRESS and change.progress is not None:
        event_type = EventType.PROGRESS
    return {
        "job_id": change.job_id,
        "target": change.to,
        "allowed": sorted(change.allowed_from()),
        "type": event_type,
        "progress": PROGRESS[change.to] if change.progress is None else change.progress,
        "message": change.message,
        "metadata": change.metadata,
        "data": change.data,
        "input": change.input,
        "result": change.result,
        "error_code": change.failure.code if change.failure else None,
        "error_message": change.failure.message if change.failure else None,
        "queue_message_id": change.queue_message_id,
        "transport": change.transport,
        "lane": change.lane,
        "is_final": change.to.is_final,
        "takes_up": change.takes_up,
        "restarts": change.takes_up or change.restarts_stage or change.starts_run,
        "starts_run": change.starts_run,
        "retry_at": change.retry_at.isoformat() if change.retry_at else None,
        "waiting_for": change.waiting_for,
        "run_at": change.run_at.isoformat() if change.run_at else None,
        "only_run": change.only_run,
    }


def _applied(row: Any) -> Outcome:
    event = JobEvent(
        job_id=row.id,
        sequence=row.event_sequence,
        type=EventType(row.type),
        status=JobStatus(row.status),
        progress=row.progress,
        message=row.message,
        data=row.data,
        created_at=row.updated_at,
    )
    left, stage_seconds = row.was
    moved = Moved(
        kind=JobKind(row.kind),
        lane=Lane(row.lane),
        left=JobStatus(left),
        stage_seconds=max(float(stage_seconds), 0.0),
        run_seconds=max(float(row.run_seconds), 0.0),
    )
    return Outcome(
        row.id,
        applied=True,
        status=event.status,
        deliveries=row.deliveries,
        event=event,
        moved=moved,
    )


def _add_event(
    session: Session, job: Job, event_type: EventType, message: str, data: dict[str, JsonValue]
) -> JobEvent:
    row = JobEventRow(
        job_id=job.id,
        sequence=job.event_sequence,
        type=event_type,
        status=job.status,
        progress=job.progress,
        message=message,
        data=data,
        created_at=func.clock_timestamp(),
    )
    session.add(row)
    session.flush()
    session.refresh(row, ["created_at"])
    return event_of(row)


def event_of(row: JobEventRow) -> JobEvent:
    """Show a row of the timeline."""
    return JobEvent(
        job_id=row.job_id,
        sequence=row.sequence,
        type=EventType(row.type),
        status=JobStatus(row.status),
        progress=row.progress,
        message=row.message,
        data=row.data,
        created_at=row.created_at,
    )
