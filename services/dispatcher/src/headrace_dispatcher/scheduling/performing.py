"""Performing the firings that begin jobs: the analysis of a recording anew, a look at a camera.

A firing becomes `running`, its job begins and the firing names it, all in one transaction. What
tells a worker of the job follows after the commit: one that is lost there, because the process was
killed or Redis went away, is found by the sweep of the job's kind.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import redis
import structlog
from dramatiq import Broker
from dramatiq.brokers.redis import RedisBroker
from pydantic import JsonValue, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.contracts.events import JobEvent
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.schedules import (
    FIRINGS_QUEUE,
    PREPROCESS,
    REANALYSE,
    CameraParams,
    FiringState,
    OverlapPolicy,
    ReanalyseParams,
)
from headrace_common.db import Database, Firing, Job, Schedule
from headrace_common.errors import ConflictError, HeadraceError, NotFoundError, UnprocessableError
from headrace_common.firings import Firings, declare_performer, reason_of
from headrace_common.jobs import JobStore, NewJob, Outcome
from headrace_common.jobs.camera_queue import cancel_jobs
from headrace_common.jobs.cameras import camera_input, entry_for_camera, registered_camera
from headrace_common.jobs.restart import JobRestarts, Restart
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.trace import fail_span, note_job
from headrace_common.worker import EmbeddedWorker
from headrace_dispatcher.gate import DATABASE_AWAY
from headrace_dispatcher.scheduling.overlap import OVERLAP, Cancelled, cancel_all, lock_earlier

log = structlog.get_logger()

#: Firings at once. Each takes milliseconds, of which most is waiting for the database.
_THREADS: Final = 4
#: Keys of a job's metadata: the schedule that fired last at it, and the firing.
SCHEDULE: Final = "schedule"
FIRING_ID: Final = "firing_id"
#: Name space of the ids of jobs that firings begin.
_JOB_IDS: Final = uuid.UUID("0b9e3c54-6a1f-4c0e-8f2b-7d5a91c3e640")


class _StillOpenError(ConflictError):
    """The job is being worked on for somebody else; it does nothing twice at once."""


@dataclass(frozen=True)
class _Taken:
    """A firing that was taken up.

    Attributes:
        name: of its schedule.
        earlier: open ones of the schedule that end where this one begins its job.
    """

    firing: Firing
    name: str
    earlier: Sequence[Firing]

    @property
    def by(self) -> str:
        """How timelines name the schedule."""
        return f"schedule {self.name!r}"

    @property
    def metadata(self) -> dict[str, JsonValue]:
        """What its job tells of where it came from."""
        return {SCHEDULE: self.name, FIRING_ID: self.firing.id}


@dataclass
class _Begun:
    """A job that was begun, and what is left to do after the commit."""

    job_id: str
    run: int
    events: list[JobEvent] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    restart: Restart | None = None
    entry: PreprocessEntry | None = None
    cancelled: Cancelled = field(default_factory=Cancelled)


_Begin = Callable[[Session, _Taken], _Begun]


def job_id_of(firing: Firing) -> str:
    """Return the id of the camera job that a firing begins: always the same, and no other's.

    By its nominal time: a database that is restored, or fails over, counts firings anew from where
    it is, and workers may still have entries of jobs which it knows nothing of.
    """
    fire_at = firing.fire_at.astimezone(UTC)
    return str(uuid.uuid5(_JOB_IDS, f"{firing.schedule_id} {fire_at.isoformat()}"))


class Performing:
    """Begins the jobs of firings. Safe to use from any thread."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        broker: RedisBroker,
        firings: Firings,
        *,
        stream: str,
    ) -> None:
        """Make it.

        Args:
            database: where firings and jobs are.
            store: changes the jobs.
            broker: takes the messages of audio jobs; its Redis has the stream too.
            firings: to be taken up.
            stream: takes the entries of camera jobs.
        """
        self._database = database
        self._store = store
        self._redis: redis.Redis = broker.client
        self._firings = firings
        self._stream = stream
        self._restarts = JobRestarts(database, store, broker, stream=stream)

    def make_worker(self, broker: Broker) -> EmbeddedWorker:
        """Make the worker that performs firings: beside others, so that none keeps one waiting."""
        declare_performer(broker, REANALYSE, self.reanalyse)
        declare_performer(broker, PREPROCESS, self.preprocess)
        return EmbeddedWorker(broker, queues={FIRINGS_QUEUE}, threads=_THREADS)

    def reanalyse(self, firing_id: int, retried: bool = False) -> FiringState | None:  # noqa: FBT001, FBT002 - see Perform
        """Begin the next run of an audio job."""
        return self._perform(firing_id, retried, self._begin_run)

    def preprocess(self, firing_id: int, retried: bool = False) -> FiringState | None:  # noqa: FBT001, FBT002 - see Perform
        """Begin a job that looks at a registered camera."""
        return self._perform(firing_id, retried, self._begin_look)

    def _perform(self, firing_id: int, retried: bool, begin: _Begin) -> FiringState | None:  # noqa: FBT001 - see Perform
        with self._database.begin() as session:
            firing = self._firings.begin_in(session, firing_id, retried=retried)
            if firing is None:
                return None
            begun = self._begin_in(session, firing, begin)
        if isinstance(begun, FiringState):
            return begun
        self._tell(begun)
        return FiringState.RUNNING

    def _begin_in(self, session: Session, firing: Firing, begin: _Begin) -> _Begun | FiringState:
        """Begin the job of a firing, or end the firing where that is not possible."""
        taken = _taken(session, firing)
        state = FiringState.FAILED
        try:
            with session.begin_nested():
                begun = begin(session, taken)
        except _StillOpenError as error:
            state, reason = FiringState.SKIPPED, f"{OVERLAP}: {error.detail}"
        except (HeadraceError, ValidationError) as error:
            reason = _reason(error)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            # A mistake of ours. Its message would become a dead letter, and count as lost.
            log.exception("firing.broken")
            reason = reason_of(error)
        else:
            firing.job_id, firing.job_run = begun.job_id, begun.run
            begun.cancelled = cancel_all(session, self._store, taken.earlier, by=taken.by)
            note_job(begun.job_id)
            log.info("firing.begun", job_id=begun.job_id, run=begun.run)
            return begun
        log.warning("firing.not_begun", state=state, reason=reason)
        if state is FiringState.FAILED:
            fail_span(reason)
        self._firings.finish_in(session, firing.id, state=state, reason=reason)
        return state

    def _begin_run(self, session: Session, taken: _Taken) -> _Begun:
        params = ReanalyseParams.model_validate(taken.firing.params)
        job = session.scalar(select(Job).where(Job.id == params.job_id).with_for_update())
        job = _check_for_another_run(job, params.job_id, taken)
        run = job.run + 1
        restart, outcome = self._restarts.begin_in(
            session,
            job,
            message=f"Analysed anew by {taken.by}: run {run}",
            metadata=taken.metadata,
        )
        return _Begun(job.id, run, outcomes=[outcome], restart=restart)

    def _begin_look(self, session: Session, taken: _Taken) -> _Begun:
        params = CameraParams.model_validate(taken.firing.params)
        job_id = job_id_of(taken.firing)
        entry = entry_for_camera(
            registered_camera(session, params.camera),
            job_id,
            enqueued_at=_milliseconds(taken.firing.started_at),
            seconds=params.seconds,
            trace=current_trace(),
        )
        new = NewJob(
            id=job_id,
            kind=JobKind.CCTV_PREPROCESS,
            lane=Lane.NORMAL,
            message=f"Going onto the stream for {taken.by}",
            created_by=f"schedule:{taken.name}",
            input=camera_input(entry),
            status=JobStatus.QUEUING,
        )
        event = self._store.create_missing_in(session, new)
        if event is None:
            raise ConflictError(f"somebody else has made a job {job_id!r}")
        session.get_one(Job, job_id).meta = taken.metadata
        return _Begun(job_id, 1, events=[event], entry=entry)

    def _tell(self, begun: _Begun) -> None:
        """Tell the workers, and whoever follows the jobs."""
        self._store.publish_events(begun.events)
        self._store.publish([*begun.outcomes, *begun.cancelled.outcomes])
        try:
            cancel_jobs(self._redis, self._stream, begun.cancelled.camera_runs)
            if begun.entry is not None:
                self._restarts.queue_camera_job(begun.entry)
        except (redis.RedisError, OSError) as error:
            # The rows count: the results service's sweep tells the workers.
            log.warning("firing.workers_not_told", job_id=begun.job_id, error=str(error)[:500])
        if begun.restart is not None:
            self._restarts.send(begun.restart)


def _taken(session: Session, firing: Firing) -> _Taken:
    name = session.get_one(Schedule, firing.schedule_id).name
    cancels = firing.overlap == OverlapPolicy.CANCEL
    return _Taken(firing, name, lock_earlier(session, firing) if cancels else ())


def _check_for_another_run(job: Job | None, job_id: str, taken: _Taken) -> Job:
    """Check that a job may begin its next run for a schedule.

    One that is open is in somebody's hands, and loses what was done so far when it is begun anew:
    only what an earlier firing of the schedule began may end so.

    Raises:
        NotFoundError: it is gone.
        UnprocessableError: it is no audio job.
        _StillOpenError: it is open.
    """
    if job is None:
        raise NotFoundError(f"there is no job {job_id!r} any more")
    if job.kind != JobKind.AUDIO_ANALYSIS:
        raise UnprocessableError(f"job {job_id!r} is no audio job but {job.kind}")
    ours = any((one.job_id, one.job_run) == (job.id, job.run) for one in taken.earlier)
    status = JobStatus(job.status)
    # What was never accepted is refused for that, by who would begin it anew.
    if not (status.is_final or status is JobStatus.UPLOADING or ours):
        raise _StillOpenError(f"the job is {status}")
    return job


def _reason(error: HeadraceError | ValidationError) -> str:
    """Say what was wrong; of parameters, which."""
    if isinstance(error, HeadraceError):
        return reason_of(error)
    faults = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)


def _milliseconds(moment: datetime | None) -> int:
    """Return a time as milliseconds since 1970."""
    assert moment is not None  # noqa: S101 - the firing was taken up
    return int(moment.timestamp() * 1000)
