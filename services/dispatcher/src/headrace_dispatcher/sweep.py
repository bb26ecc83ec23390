"""The sweep: looks for jobs that got stuck, and gets them going or ends them with a reason.

Whatever dies or is flushed between two steps of a job, its row is still there; the sweep
finds it. One dispatcher sweeps at a time. A loop drives it until the scheduler does.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import Counter
from sqlalchemy import select, text, tuple_
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.broker import QueueUnavailableError, lost_messages, new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, Failure, JobStore
from headrace_common.telemetry import continue_trace
from headrace_dispatcher.asking import AskingAgain
from headrace_dispatcher.dispatch import Dispatching
from headrace_dispatcher.recovery import Action, Recovery, plan_recovery
from headrace_dispatcher.settings import DispatcherSettings

log = structlog.get_logger()

_RECOVERED: Final = Counter(
    "headrace_jobs_recovered_total", "Jobs that the sweep acted on", ["action", "code"]
)
#: Advisory lock of whoever sweeps: "sweep" in hex.
_SWEEP_LOCK: Final = 0x7377656570
#: Rows looked at in one round. A long lane is gone through over several rounds.
_ROUND_ROWS: Final = 2_000


class Sweep:
    """Goes through open audio jobs, round after round."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        dispatching: Dispatching,
        broker: RedisBroker,
        settings: DispatcherSettings,
    ) -> None:
        """Work with these; nothing happens before `start`."""
        self._database = database
        self._store = store
        self._asking = AskingAgain(dispatching, store)
        self._broker = broker
        self._settings = settings
        self._cursor: tuple[datetime, str] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sweep", daemon=True)

    def start(self) -> None:
        """Sweep every SWEEP_INTERVAL_SECONDS."""
        self._thread.start()

    def check(self) -> None:
        """Check that the loop lives.

        Raises:
            RuntimeError: it does not.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the sweep has ended")

    def stop(self) -> None:
        """End the loop after what is in hand, which takes seconds."""
        self._stop.set()
        self._thread.join()

    def round(self) -> int:
        """Look at the next rows, if nobody else does, and return how many were acted on."""
        with self._database.begin() as session:
            mine = session.scalar(
                text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _SWEEP_LOCK}
            )
            if not mine:
                return 0
            due = self._due(self._next_jobs())
            unanswered = [pair for pair in due if pair[1].action is Action.ASK_AGAIN]
            others = [pair for pair in due if pair[1].action is not Action.ASK_AGAIN]
            recovered = sum(self._recovered(job, plan) for job, plan in others)
            asked = self._asking.ask([job for job, _ in unanswered])
        for plan in (plan for job, plan in unanswered if job.id in asked):
            _RECOVERED.labels(action=plan.action.value, code=plan.code).inc()
        return recovered + len(asked)

    def _loop(self) -> None:
        while not self._stop.wait(self._settings.sweep_interval_seconds):
            try:
                self.round()
            except (SQLAlchemyError, QueueUnavailableError) as error:
                log.warning("dispatcher.sweep_postponed", error=str(error)[:500])
            except Exception:
                # Whatever else it is, the next round gets its chance.
                log.exception("dispatcher.sweep_failed")

    def _next_jobs(self) -> list[Job]:
        """Return the next rows from where the last round ended, oldest stage first."""
        age = timedelta(seconds=self._settings.lost_after_seconds)
        query = (
            select(Job)
            .where(
                Job.finished_at.is_(None),
                Job.kind == JobKind.AUDIO_ANALYSIS,
                Job.stage_entered_at < datetime.now(UTC) - age,
            )
            .order_by(Job.stage_entered_at, Job.id)
            .limit(_ROUND_ROWS)
        )
        if self._cursor is not None:
            query = query.where(tuple_(Job.stage_entered_at, Job.id) > tuple_(*self._cursor))
        with self._database.begin() as session:
            jobs = list(session.scalars(query).all())
        full = len(jobs) == _ROUND_ROWS
        self._cursor = (jobs[-1].stage_entered_at, jobs[-1].id) if full else None
        return jobs

    def _due(self, jobs: list[Job]) -> list[tuple[Job, Recovery]]:
        """Return the jobs that need something, and what; lost messages are looked up at once."""
        now = datetime.now(UTC)
        planned = [
            (job, plan) for job in jobs if (plan := plan_recovery(job, self._settings, now=now))
        ]
        lost: set[str] = set()
        for lane in Lane:
            ids = [
                job.queue_message_id or ""
                for job, plan in planned
                if plan.action is Action.REQUEUE_IF_LOST and job.lane == lane
            ]
            if ids:
                lost.update(lost_messages(self._broker, lane.queue_name, ids))
        return [
            (job, plan)
            for job, plan in planned
            if plan.action is not Action.REQUEUE_IF_LOST or (job.queue_message_id or "") in lost
        ]

    def _recovered(self, job: Job, plan: Recovery) -> bool:
        with continue_trace(job.trace, "recover job", job_id=job.id):
            log.warning("dispatcher.job_recovered", code=plan.code, action=plan.action.value)
            try:
                self._recover(job, plan)
            except (SQLAlchemyError, QueueUnavailableError):
                raise  # the others would fare no better
            except Exception:
                # One job at fault must not keep those behind it waiting for ever.
                log.exception("dispatcher.job_not_recovered")
                return False
        _RECOVERED.labels(action=plan.action.value, code=plan.code).inc()
        return True

    def _recover(self, job: Job, plan: Recovery) -> None:
        if plan.action is Action.FAIL:
            self._fail(job, plan)
        else:
            self._requeue(job, plan)

    def _requeue(self, job: Job, plan: Recovery) -> None:
        lane, message_id = Lane(job.lane), str(uuid4())
        target = JobStatus.QUEUED if job.status == JobStatus.QUEUING else JobStatus(job.status)
        change = Change(
            job_id=job.id,
            to=target,
            message=f"Queued again: {plan.reason}",
            data={"code": plan.code},
            queue_message_id=message_id,
            only_from=frozenset({JobStatus(job.status)}),
            restarts_stage=True,
        )
        # Row first: a message whose row does not know it would be taken for lost again, while a
        # row whose message was never sent is found by the next round.
        if self._store.apply([change])[0].applied:
            payload = DispatchJob(job_id=job.id)
            send(
                self._broker,
                new_message(dispatch_actor(lane), lane.queue_name, payload, message_id=message_id),
            )

    def _fail(self, job: Job, plan: Recovery) -> None:
        change = Change(
            job_id=job.id,
            to=JobStatus.FAILED,
            message=f"Timed out: {plan.reason}",
            failure=Failure(plan.code, plan.reason),
            only_from=frozenset({JobStatus(job.status)}),
        )
        self._store.apply([change])
