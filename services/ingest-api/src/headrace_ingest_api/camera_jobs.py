"""The job of a camera request: a row first, then an entry of the stream.

From the commit of the row on the job is accepted. Where Redis is away it stays `queuing`, and the
results service's sweep puts it on the stream as soon as that is back.
"""

import hashlib
import json
import time
from dataclasses import dataclass

import redis
import structlog
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.regions import Polygons
from headrace_common.db.models import Camera, Job
from headrace_common.errors import ConflictError
from headrace_common.jobs import Change, NewJob, Outcome
from headrace_common.jobs.camera_queue import add_entry
from headrace_common.jobs.cameras import camera_input, entry_for_camera, registered_camera
from headrace_common.telemetry.trace import current_trace
from headrace_ingest_api.errors import AcceptanceUnknownError
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys
from headrace_ingest_api.resources import Resources

log = structlog.get_logger()


class JobExistsError(ConflictError):
    """There is a job with the id that the client chose."""

    code = "job_exists"
    title = "Job exists"


class CameraAnswer(BaseModel):
    """What a camera request is answered."""

    message: str = Field(description="What happened, for people")
    job_id: str
    queue_message_id: str | None = Field(
        description="Id of the entry in the stream; null while the job is not on it"
    )
    status: JobStatus = Field(
        description="`queued`; `queuing` while Redis is away, which queues the job later by "
        "itself; or further on, where a worker was quicker than this answer"
    )
    cctv_id: str


@dataclass(frozen=True)
class CameraWish:
    """What a client asks for, checked.

    Attributes:
        hls: of the stream; None for the registered camera's.
        seconds: of the clip; the same.
        region: where the road is; the same, or unknown.
        job_id: that the client chose, if any.
    """

    cctv_id: str
    hls: str | None
    seconds: float | None
    region: Polygons | None
    job_id: str | None
    idempotency_key: str | None
    key_id: str | None

    def claim(self, job_id: str) -> Claim | None:
        """Return the claim on the idempotency key, if there is one."""
        if self.idempotency_key is None:
            return None
        return Claim(f"{self.key_id or 'anonymous'} preprocess", self.idempotency_key, job_id)

    @property
    def fingerprint(self) -> str:
        """What a repetition of the request has to equal."""
        asked: list[object] = [self.cctv_id, self.hls, self.seconds, self.job_id]
        if self.region is not None:  # else as versions before regions had it
            asked.append(self.region)
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def entry(self, job_id: str, camera: Camera) -> PreprocessEntry:
        """Return the entry of the stream, which carries the current trace."""
        return entry_for_camera(
            camera,
            job_id,
            enqueued_at=time.time_ns() // 1_000_000,
            seconds=self.seconds,
            region=self.region,
            trace=current_trace(),
        )


class CameraJobs:
    """Creates and queues camera jobs. Every method blocks on the database and on Redis."""

    def __init__(self, resources: Resources, keys: IdempotencyKeys) -> None:
        """Work with the process's resources."""
        self._database = resources.database
        self._store = resources.store
        self._redis = resources.redis
        self._stream = resources.settings.redis_stream
        self._keys = keys

    def take(self, wish: CameraWish, job_id: str) -> tuple[CameraAnswer, bool]:
        """Accept one request.

        Args:
            wish: what is asked for.
            job_id: of the job that it makes, if it makes one.

        Returns:
            The answer, and whether it is the repetition of an earlier one.

        Raises:
            JobExistsError: the id that the client chose is taken.
            UnknownCameraError: no URL was given, and the camera is not registered.
            KeyInUseError, KeyReusedError: of the idempotency key.
            AcceptanceUnknownError: nobody here can know whether the job was accepted.
        """
        claim = wish.claim(job_id)
        stored = self._keys.claim(claim) if claim else None
        if stored is not None:
            stored.check(wish.fingerprint)
            return CameraAnswer.model_validate(stored.response), True
        with structlog.contextvars.bound_contextvars(job_id=job_id):
            try:
                entry = self._entry(wish, job_id)
                accepted = self._accept(wish, entry, claim)
            except BaseException:
                self._release(claim)
                raise
            return self._queue(wish, entry, claim) or accepted, False

    def _entry(self, wish: CameraWish, job_id: str) -> PreprocessEntry:
        if wish.hls is not None:
            return wish.entry(job_id, Camera(name=wish.cctv_id, hls=wish.hls))
        with self._database.begin() as session:
            return wish.entry(job_id, registered_camera(session, wish.cctv_id))

    def _accept(
        self, wish: CameraWish, entry: PreprocessEntry, claim: Claim | None
    ) -> CameraAnswer:
        """Create the job, `queuing`."""
        answer = _answer(wish, entry.job_id, JobStatus.QUEUING, None)
        new = NewJob(
            id=entry.job_id,
            kind=JobKind.CCTV_PREPROCESS,
            lane=Lane.NORMAL,
            message="Going onto the stream",
            created_by=wish.key_id,
            input=camera_input(entry),
            status=JobStatus.QUEUING,
        )
        commits = False
        try:
            with self._database.begin() as session:
                event = self._store.create_missing_in(session, new)
                if event is None:
                    raise JobExistsError(f"there is a job {entry.job_id!r}", job_id=entry.job_id)
                self._remember(session, wish, claim, answer)
                commits = True
        except SQLAlchemyError as error:
            if commits and not isinstance(error, IntegrityError):
                raise AcceptanceUnknownError("the database went away; try again") from error
            raise
        self._store.publish_events([event])
        return answer

    def _queue(
        self, wish: CameraWish, entry: PreprocessEntry, claim: Claim | None
    ) -> CameraAnswer | None:
        """Put the job on the stream; None where that has to wait, or cannot be noted."""
        try:
            entry_id = add_entry(self._redis, self._stream, entry)
            return self._note_queued(wish, entry.job_id, entry_id, claim)
        except (redis.RedisError, OSError) as error:
            log.warning("camera.stream_away", error=str(error)[:500])
        except SQLAlchemyError as error:
            # It is on the stream: whoever reads that notes it.
            log.warning("camera.not_noted_as_queued", error=str(error)[:500])
        return None

    def _note_queued(
        self, wish: CameraWish, job_id: str, entry_id: str, claim: Claim | None
    ) -> CameraAnswer:
        outcomes: list[Outcome] = []
        with self._database.begin() as session:
            job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
            # The results service reads the stream too, and may have been quicker.
            if job.status == JobStatus.QUEUING:
                queued = Change(
                    job_id=job_id,
                    to=JobStatus.QUEUED,
                    message="Waiting in the stream",
                    queue_message_id=entry_id,
                )
                outcomes = self._store.apply_in(session, [queued])
            status = outcomes[0].status if outcomes else JobStatus(job.status)
            answer = _answer(wish, job_id, status, entry_id)
            self._remember(session, wish, claim, answer)
        self._store.publish(outcomes)
        return answer

    def _remember(
        self, session: Session, wish: CameraWish, claim: Claim | None, answer: CameraAnswer
    ) -> None:
        if claim is not None:
            response = answer.model_dump(mode="json")
            self._keys.complete_in(session, claim, wish.fingerprint, response)

    def _release(self, claim: Claim | None) -> None:
        if claim is None:
            return
        try:
            self._keys.release(claim)
        except SQLAlchemyError as error:
            log.warning("idempotency.not_released", error=str(error)[:500])  # it runs out


def _answer(wish: CameraWish, job_id: str, status: JobStatus, entry_id: str | None) -> CameraAnswer:
    text = {
        JobStatus.QUEUING: "Accepted; it goes onto the stream as soon as Redis is back",
        JobStatus.QUEUED: "Queued",
    }
    return CameraAnswer(
        message=text.get(status, f"Accepted; the job is {status}"),
        job_id=job_id,
        queue_message_id=entry_id,
        status=status,
        cctv_id=wish.cctv_id,
    )
