"""How a job is begun anew, whoever asks for it: an operator's retry, or a dead letter replayed.

The row goes first, into its next run; what tells a worker of it follows after the commit. A crash
between the two, or a Redis that is away, loses nothing: a sweep finds the row and tells again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import redis
import structlog
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from opentelemetry.trace import SpanKind
from pydantic import JsonValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.broker import QueueUnavailableError, new_message, send
from headrace_common.contracts.analysis import ANALYSIS_PROGRESS
from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db.engine import Database
from headrace_common.db.models import Job
from headrace_common.errors import ConflictError
from headrace_common.jobs.camera_queue import add_entry
from headrace_common.jobs.cameras import ATTEMPT, camera_entry
from headrace_common.jobs.changes import Change, Outcome
from headrace_common.jobs.store import JobStore
from headrace_common.telemetry.trace import continue_trace

log = structlog.get_logger()


class NotAcceptedError(ConflictError):
    """The job's recording was never accepted, so that there is nothing to do anew."""

    code = "job_not_accepted"
    title = "Job was never accepted"


class MediaDiscardedError(NotAcceptedError):
    """The job ended while its recording came in, or is being purged: nothing is kept of it."""

    code = "media_discarded"
    title = "Recording was not kept"


@dataclass(frozen=True)
class Restart:
    """What is to be done for a job to begin anew.

    Attributes:
        change: of the row, to be made where the row is locked.
        message: for the lane, after the commit; None for a camera job.
        entry: for the stream, after the commit; None for an audio job.
        run: that the job is in then: the next, or its first where that had not begun.
    """

    change: Change
    message: "Message[Any] | None"
    entry: PreprocessEntry | None
    run: int


def plan_restart(job: Job, *, message: str) -> Restart:
    """Decide how a job is begun anew, from whatever status.

    One that is scheduled has not begun at all: it is queued now, and its run stays the first.

    Args:
        job: locked, so that the change fits it.
        message: for its timeline.

    Raises:
        NotAcceptedError: it is still uploading, or ended while it was.
        MalformedEntryError: the entry of a camera job cannot be made of its row.
    """
    if job.discard_at is not None:
        raise MediaDiscardedError(
            f"nothing is kept of job {job.id!r}: its upload never ended, or its retention is over"
        )
    if job.status == JobStatus.UPLOADING:
        raise NotAcceptedError(f"job {job.id!r} is still being uploaded")
    if job.kind == JobKind.CCTV_PREPROCESS:
        return _camera_restart(job, message)
    lane, message_id = Lane(job.lane), str(uuid4())
    with continue_trace(job.trace, "begin anew", kind=SpanKind.INTERNAL, job_id=job.id):
        told = new_message(
            dispatch_actor(lane),
            lane.queue_name,
            DispatchJob(job_id=job.id),
            message_id=message_id,
        )
    has_begun = job.status != JobStatus.SCHEDULED
    change = Change(
        job_id=job.id,
        to=JobStatus.QUEUED,
        message=message,
        # Who is asked next has not begun.
        metadata={ANALYSIS_PROGRESS: None} if has_begun else {},
        queue_message_id=message_id,
        starts_run=has_begun,
    )
    return Restart(change, told, None, job.run + has_begun)


def _camera_restart(job: Job, message: str) -> Restart:
    entry = camera_entry(job.id, job.input, {ATTEMPT: 0}, job.trace, run=job.run + 1)
    change = Change(
        job_id=job.id,
        to=JobStatus.QUEUING,
        message=message,
        metadata={ATTEMPT: 0, "stage": None},
        starts_run=True,
    )
    return Restart(change, None, entry, job.run + 1)


class JobRestarts:
    """Begins jobs anew: the row in a transaction of the caller's, the rest after its commit."""

    def __init__(
        self, database: Database, store: JobStore, broker: RedisBroker, *, stream: str
    ) -> None:
        """Make it.

        Args:
            database: where the jobs are.
            store: changes them.
            broker: takes the messages of audio jobs; its Redis has the stream too.
            stream: takes the entries of camera jobs.
        """
        self._database = database
        self._store = store
        self._broker = broker
        self._stream = stream

    def begin_in(
        self,
        session: Session,
        job: Job,
        *,
        message: str,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> tuple[Restart, Outcome]:
        """Put a job that is locked into its next run; the caller publishes and sends then.

        One that is scheduled is queued now instead, see `plan_restart`.

        Args:
            session: of the caller's transaction.
            job: to begin anew.
            message: for its timeline.
            metadata: merged into the job's.

        Raises:
            NotAcceptedError, MalformedEntryError: see `plan_restart`.
        """
        restart = plan_restart(job, message=message)
        change = replace(restart.change, metadata={**restart.change.metadata, **(metadata or {})})
        return restart, self._store.apply_in(session, [change])[0]

    def send(self, restart: Restart) -> bool:
        """Tell a worker; False where Redis is away, so that a sweep has to."""
        try:
            if restart.message is not None:
                send(self._broker, restart.message)
            if restart.entry is not None:
                self.queue_camera_job(restart.entry)
        except (QueueUnavailableError, redis.RedisError) as error:
            log.warning(
                "job.restart_not_sent", job_id=restart.change.job_id, error=str(error)[:500]
            )
            return False
        return True

    def queue_camera_job(self, entry: PreprocessEntry) -> None:
        """Put a camera job that is `queuing` on the stream, and note that it is there.

        Raises:
            redis.RedisError: Redis is away; the results service's sweep does it later.
        """
        entry_id = add_entry(self._broker.client, self._stream, entry)
        self._note_queued(entry.job_id, entry_id)

    def _note_queued(self, job_id: str, entry_id: str) -> None:
        queued = Change(
            job_id=job_id,
            to=JobStatus.QUEUED,
            message="Waiting in the stream",
            queue_message_id=entry_id,
        )
        outcomes: list[Outcome] = []
        with self._database.begin() as session:
            job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
            # The results service reads the stream too, and may have been quicker.
            if job is not None and job.status == JobStatus.QUEUING:
                outcomes = self._store.apply_in(session, [queued])
        self._store.publish(outcomes)
