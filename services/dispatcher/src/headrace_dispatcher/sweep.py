"""The sweep: looks for jobs that got stuck, and gets them going or ends them with a reason.

Whatever dies or is flushed between two steps of a job, its row is still there; the sweep
finds it. Any dispatcher may be told to sweep, and none holds what another needs: a job is changed
only as it was read, so that of several that found it one acts, and one that was frozen in between
does not.
"""

import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog
from dramatiq.brokers.redis import RedisBroker
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram
from pydantic import JsonValue
from sqlalchemy import func, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from headrace_common.broker import new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, Failure, JobStore, Outcome
from headrace_common.shifts import Shift
from headrace_common.telemetry import continue_trace
from headrace_common.telemetry.metrics import from_zero
from headrace_common.telemetry.trace import note_status
from headrace_dispatcher.asking import AskingAgain
from headrace_dispatcher.lookup import MessageLookup
from headrace_dispatcher.recovery import Action, Recovery, plan_recovery
from headrace_dispatcher.settings import DispatcherSettings

log = structlog.get_logger()

_RECOVERED: Final = Counter(
    "headrace_jobs_recovered_total", "Jobs that the sweep acted on", ["action", "code"]
)
for _action, _codes in {
    Action.REQUEUE: ("never_queued",),
    Action.REQUEUE_IF_LOST: ("message_lost",),
    Action.REQUEUE_IF_STUCK: ("stage_timed_out",),
    Action.ASK_AGAIN: ("analysis_timed_out",),
    Action.FAIL: ("upload_abandoned", "analysis_timed_out"),
}.items():
    from_zero(_RECOVERED, (_action.value,), _codes)
_SECONDS: Final = Histogram(
    "headrace_sweep_duration_seconds",
    "Time of one round of the sweep",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60),
)
_SUCCEEDED: Final = Gauge(
    "headrace_sweep_last_success_timestamp_seconds", "When a round of the sweep ended well"
)
#: Rows looked at in one round. A long lane is gone through over several rounds.
_ROUND_ROWS: Final = 2_000
#: Jobs that are changed in one transaction.
_BATCH: Final = 100

_Plan = tuple[Job, Recovery]


class Sweep:
    """Goes through open audio jobs, round after round."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        asking: AskingAgain,
        broker: RedisBroker,
        settings: DispatcherSettings,
    ) -> None:
        """Work with these."""
        self._database = database
        self._store = store
        self._asking = asking
        self._broker = broker
        self._lookup = MessageLookup(broker)
        self._settings = settings
        self._turn = threading.Lock()
        self._cursor: tuple[datetime, str] | None = None

    def run(self, shift: Shift) -> dict[str, JsonValue]:
        """Go through all open jobs, and return how many were acted on, by code.

        The pause between two rounds is as long as the last one took, so that a sweep never takes
        more than half of one connection. Where its time is over before its end, the next one goes
        on there. Does nothing where another thread sweeps.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Postgres is away.
            QueueUnavailableError: Redis is.
        """
        if not self._turn.acquire(blocking=False):
            return {"under_way": True}
        try:
            acted: Tally[str] = Tally()
            seconds = self._timed_round(acted)
            while self._cursor is not None and not shift.is_over():
                shift.pause(seconds)
                seconds = self._timed_round(acted)
            return {**acted, "to_the_end": self._cursor is None}
        finally:
            self._turn.release()

    def _timed_round(self, acted: "Tally[str]") -> float:
        """Do a round, count what it acted on, and return its seconds."""
        started = time.monotonic()
        acted.update(plan.code for _, plan in self._round())
        seconds = time.monotonic() - started
        _SECONDS.observe(seconds)
        _SUCCEEDED.set_to_current_time()
        return seconds

    def round(self) -> int:
        """Look at the next rows, and return how many were acted on."""
        return len(self._round())

    def _round(self) -> list[_Plan]:
        due = self._due(*self._next_jobs())
        unanswered = [pair for pair in due if pair[1].action is Action.ASK_AGAIN]
        others = [pair for pair in due if pair[1].action is not Action.ASK_AGAIN]
        acted = [pair for batch in _batches(others) for pair in self._recover(batch)]
        asked = self._asking.ask([job for job, _ in unanswered])
        acted += [(job, plan) for job, plan in unanswered if job.id in asked]
        for _, plan in acted:
            _RECOVERED.labels(action=plan.action.value, code=plan.code).inc()
        return acted

    def _next_jobs(self) -> tuple[list[Job], datetime]:
        """Return the next rows from where the last round ended, oldest stage first; and the time.

        The time is the database's, as that in the rows is: a clock of ours that is wrong must end
        nobody's upload.
        """
        age = timedelta(seconds=self._settings.lost_after_seconds)
        query = (
            select(Job)
            .where(
                Job.finished_at.is_(None),
                Job.kind == JobKind.AUDIO_ANALYSIS,
                Job.stage_entered_at < func.now() - age,
                # However long they wait, they are not stuck: `due` queues them.
                Job.status != JobStatus.SCHEDULED,
            )
            .order_by(Job.stage_entered_at, Job.id)
            .limit(_ROUND_ROWS)
        )
        if self._cursor is not None:
            query = query.where(tuple_(Job.stage_entered_at, Job.id) > tuple_(*self._cursor))
        with self._database.begin() as session:
            jobs = list(session.scalars(query).all())
            now = session.execute(select(func.now())).scalar_one()
        full = len(jobs) == _ROUND_ROWS
        self._cursor = (jobs[-1].stage_entered_at, jobs[-1].id) if full else None
        return jobs, now

    def _due(self, jobs: list[Job], now: datetime) -> list[_Plan]:
        """Return the jobs that need something, and what; messages are looked up together."""
        planned = [
            (job, plan) for job in jobs if (plan := plan_recovery(job, self._settings, now=now))
        ]
        gone = self._looked_up(planned, Action.REQUEUE_IF_LOST) | self._looked_up(
            planned, Action.REQUEUE_IF_STUCK
        )
        sure = {Action.REQUEUE, Action.ASK_AGAIN, Action.FAIL}
        return [
            (job, plan)
            for job, plan in planned
            if plan.action in sure or (job.queue_message_id or "") in gone
        ]

    def _looked_up(self, planned: list[_Plan], action: Action) -> set[str]:
        """Return the messages of the jobs with that action which are not where they should be."""
        look = self._lookup.lost if action is Action.REQUEUE_IF_LOST else self._lookup.stuck
        gone: set[str] = set()
        for lane in Lane:
            ids = [
                job.queue_message_id or ""
                for job, plan in planned
                if plan.action is action and job.lane == lane
            ]
            if ids:
                gone |= look(lane, ids)
        return gone

    def _recover(self, batch: Sequence[_Plan]) -> list[_Plan]:
        """Act on jobs that are still as they were read, and return these."""
        try:
            with self._database.begin() as session:
                unchanged = _unchanged(session, [job for job, _ in batch])
                acted = [pair for pair in batch if pair[0].id in unchanged]
                changes = [_change(job, plan) for job, plan in acted]
                outcomes = self._store.apply_in(session, changes)
        except SQLAlchemyError:
            raise  # the others would fare no better
        except Exception:
            # One job at fault must not keep the others waiting for ever.
            if len(batch) > 1:
                return [pair for one in batch for pair in self._recover([one])]
            log.exception("dispatcher.job_not_recovered", job_id=batch[0][0].id)
            return []
        self._store.publish(outcomes)
        for (job, plan), change, outcome in zip(acted, changes, outcomes, strict=True):
            self._tell(job, plan, change, outcome)
        return acted

    def _tell(self, job: Job, plan: Recovery, change: Change, outcome: Outcome) -> None:
        """Send the message that the row knows by now.

        Row first: a message whose row does not know it would be taken for lost again, while a
        row whose message was never sent is found by a later round.
        """
        with continue_trace(job.trace, "recover job", kind=SpanKind.INTERNAL, job_id=job.id):
            if outcome.applied:
                note_status(job.id, outcome.status)
            log.warning("dispatcher.job_recovered", code=plan.code, action=plan.action.value)
            if change.queue_message_id is not None:
                lane = Lane(job.lane)
                message = new_message(
                    dispatch_actor(lane),
                    lane.queue_name,
                    DispatchJob(job_id=job.id),
                    message_id=change.queue_message_id,
                )
                send(self._broker, message)


def _unchanged(session: Session, jobs: Sequence[Job]) -> set[str]:
    """Lock the jobs to which nothing has happened since they were read, and return their ids."""
    as_read = [(job.id, job.event_sequence, job.stage_entered_at) for job in jobs]
    query = (
        select(Job.id)
        .where(tuple_(Job.id, Job.event_sequence, Job.stage_entered_at).in_(as_read))
        .with_for_update(skip_locked=True)
    )
    return set(session.scalars(query))


def _change(job: Job, plan: Recovery) -> Change:
    status = JobStatus(job.status)
    if plan.action is Action.FAIL:
        return Change(
            job_id=job.id,
            to=JobStatus.FAILED,
            message=f"Timed out: {plan.reason}",
            failure=Failure(plan.code, plan.reason),
            only_from=frozenset({status}),
        )
    return Change(
        job_id=job.id,
        to=JobStatus.QUEUED if status is JobStatus.QUEUING else status,
        message=f"Queued again: {plan.reason}",
        data={"code": plan.code},
        queue_message_id=str(uuid4()),
        only_from=frozenset({status}),
        restarts_stage=True,
    )


def _batches(pairs: list[_Plan]) -> Iterator[list[_Plan]]:
    for start in range(0, len(pairs), _BATCH):
        yield pairs[start : start + _BATCH]
