"""The job of an upload, from its creation to its message on the lane's queue.

Three steps change the database, each in one transaction; between them lie S3 and Redis. The
message's id is chosen before it is sent and stored with `queuing`, so that a job whose message
never reached Redis is known and sent again (the dispatcher's sweep does).
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import structlog
from pydantic import BaseModel, Field, JsonValue
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from headrace_common.broker import QueueUnavailableError, new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Job
from headrace_common.jobs import Change, Failure, JobQueries, NewJob, Outcome
from headrace_common.jobs.states import PROGRESS_STORED
from headrace_common.storage import S3Location
from headrace_ingest_api.errors import AcceptanceUnknownError
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys, fingerprint
from headrace_ingest_api.probe import AudioFacts
from headrace_ingest_api.recognition import Container
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.tokens import TokenReference
from headrace_ingest_api.watch import overtaken

log = structlog.get_logger()


class UploadAnswer(BaseModel):
    """What an upload is answered (A1)."""

    message: str = Field(description="What happened, for people")
    job_id: str
    queue_message_id: str = Field(description="Id of the message on the lane's queue")
    rq_job_id: str = Field(description="Old name of queue_message_id")
    status: JobStatus = Field(
        description="`queued`; `queuing` while the queue is away, which sends the job later by "
        "itself; or further on, where a worker was quicker than this answer"
    )
    priority: Lane
    queue_position: int = Field(
        ge=0,
        description="Place in the lane, from 1; 0 when the job does not wait in it: a worker took "
        "it already, or the queue has not taken it yet",
    )
    token_id: str


@dataclass(frozen=True)
class JobToken:
    """The token of a job as it was when the job was made."""

    id: str
    s3_textgrid_url: str | None
    s3_pitch_url: str | None

    @classmethod
    def of(cls, job: Job) -> "JobToken":
        """Read it from the job's row."""
        urls = [job.input.get(name) for name in ("s3_textgrid_url", "s3_pitch_url")]
        return cls(job.token_id or "", *(str(url) if url else None for url in urls))


@dataclass(frozen=True)
class Recording:
    """What is known of an upload when its first bytes are here."""

    job_id: str
    token: TokenReference
    lane: Lane
    container: Container
    filename: str
    location: S3Location
    created_by: str | None


@dataclass(frozen=True)
class StoredRecording:
    """What is known when all of it is in S3."""

    recording: Recording
    lane: Lane
    size: int
    sha256: str
    facts: AudioFacts

    @property
    def fingerprint(self) -> str:
        """What a repetition of the upload has to equal."""
        return fingerprint(
            token_id=self.recording.token.id, lane=self.lane, file_sha256=self.sha256
        )


class UploadJobs:
    """Creates, queues and fails the jobs of uploads. Every method blocks on the database."""

    def __init__(self, resources: Resources, keys: IdempotencyKeys) -> None:
        """Work with the process's resources."""
        self._database = resources.database
        self._store = resources.store
        self._broker = resources.broker
        self._keys = keys

    def create(self, recording: Recording) -> None:
        """Create the job, `uploading`.

        Its input names the object already, so that what a crash leaves can be found.
        """
        self._store.create(new_job(recording, "Receiving the recording"))

    def queue(self, stored: StoredRecording, claim: Claim | None) -> UploadAnswer:
        """Note that the file is stored, and put the job's message on its lane's queue.

        From the first commit on the job is accepted, whatever happens to this process.

        Raises:
            UploadOvertakenError: the job was cancelled or ended meanwhile.
            KeyInUseError: another request took the idempotency key over.
            AcceptanceUnknownError: nobody here can know whether the commit arrived.
        """
        job_id = stored.recording.job_id
        message_id = str(uuid4())
        answer = _answer(stored, message_id, JobStatus.QUEUING, 0)
        outcomes = self._accept(stored, message_id, claim, answer)
        self._store.publish(outcomes)
        if not outcomes[-1].applied:
            raise overtaken(job_id, outcomes[-1].status)
        try:
            return self._send(stored, message_id, claim)
        except QueueUnavailableError as error:
            log.warning("upload.queue_away", error=str(error)[:500])
        except SQLAlchemyError as error:
            # The message may be on its queue already: the worker that gets it goes on.
            log.warning("upload.not_noted_as_queued", error=str(error)[:500])
        return answer

    def fail(self, job_id: str, failure: Failure) -> bool | None:
        """End a job whose upload failed.

        Returns:
            Whether nothing of its recording is to be kept; False where it was accepted before,
            whatever became of it since, and None if the database is away and nobody can know.
        """
        change = Change(
            job_id=job_id,
            to=JobStatus.FAILED,
            message=failure.message,
            failure=failure,
            only_from=frozenset({JobStatus.UPLOADING}),
        )
        try:
            with self._database.begin() as session:
                outcomes = self._store.apply_in(session, [change])
                discard_at = session.scalar(select(Job.discard_at).where(Job.id == job_id))
        except SQLAlchemyError as error:
            log.warning("upload.not_noted_as_failed", error=str(error)[:500])
            return None
        self._store.publish(outcomes)
        return discard_at is not None

    def _accept(
        self, stored: StoredRecording, message_id: str, claim: Claim | None, answer: UploadAnswer
    ) -> list[Outcome]:
        commits = False
        try:
            with self._database.begin() as session:
                outcomes = self._store.apply_in(session, _stored_changes(stored, message_id))
                if outcomes[-1].applied and claim is not None:
                    self._remember(session, claim, stored, answer)
                commits = True
        except SQLAlchemyError as error:
            if commits:
                raise AcceptanceUnknownError("the database went away; try again") from error
            raise
        return outcomes

    def _send(self, stored: StoredRecording, message_id: str, claim: Claim | None) -> UploadAnswer:
        lane, job_id = stored.lane, stored.recording.job_id
        message = new_message(
            dispatch_actor(lane), lane.queue_name, DispatchJob(job_id=job_id), message_id=message_id
        )
        send(self._broker, message)
        queued = Change(job_id=job_id, to=JobStatus.QUEUED, message="Waiting in the queue")
        with self._database.begin() as session:
            outcomes = self._store.apply_in(session, [queued])
            place = JobQueries(session).places([job_id]).get(job_id, 0)
            answer = _answer(stored, message_id, outcomes[0].status, place)
            if claim is not None:
                self._remember(session, claim, stored, answer)
        self._store.publish(outcomes)
        return answer

    def _remember(
        self, session: Session, claim: Claim, stored: StoredRecording, answer: UploadAnswer
    ) -> None:
        response = answer.model_dump(mode="json")
        self._keys.complete_in(session, claim, stored.fingerprint, response)


def new_job(recording: Recording, message: str, **more: JsonValue) -> NewJob:
    """Return the job of an upload, with `more` in its input."""
    return NewJob(
        id=recording.job_id,
        kind=JobKind.AUDIO_ANALYSIS,
        lane=recording.lane,
        message=message,
        token_id=recording.token.id,
        created_by=recording.created_by,
        input={
            "s3_audio_url": recording.location.url,
            "s3_textgrid_url": recording.token.s3_textgrid_url,
            "s3_pitch_url": recording.token.s3_pitch_url,
            "filename": recording.filename,
            "content_type": recording.container.media_type,
            **more,
        },
    )


def accepted_answer(session: Session, job: Job) -> UploadAnswer:
    """Return what the upload of an accepted job is answered when it is asked for again."""
    return UploadAnswer(
        message=_text(JobStatus(job.status)),
        job_id=job.id,
        queue_message_id=job.queue_message_id or "",
        rq_job_id=job.queue_message_id or "",
        status=JobStatus(job.status),
        priority=Lane(job.lane),
        queue_position=JobQueries(session).places([job.id]).get(job.id, 0),
        token_id=job.token_id or "",
    )


def _stored_changes(stored: StoredRecording, message_id: str) -> list[Change]:
    job_id = stored.recording.job_id
    audio: dict[str, JsonValue] = stored.facts.model_dump(mode="json")
    uploading = Change(
        job_id=job_id,
        to=JobStatus.UPLOADING,
        progress=PROGRESS_STORED,
        message="The recording is stored",
        input={
            "bytes": stored.size,
            "sha256": stored.sha256,
            "content_type": stored.recording.container.media_type,
        },
        metadata={"audio": audio},
        lane=stored.lane,
    )
    queuing = Change(
        job_id=job_id,
        to=JobStatus.QUEUING,
        message=f"Going into the queue {stored.lane.queue_name}",
        queue_message_id=message_id,
    )
    return [uploading, queuing]


def _answer(
    stored: StoredRecording, message_id: str, status: JobStatus, place: int
) -> UploadAnswer:
    return UploadAnswer(
        message=_text(status),
        job_id=stored.recording.job_id,
        queue_message_id=message_id,
        rq_job_id=message_id,
        status=status,
        priority=stored.lane,
        queue_position=place,
        token_id=stored.recording.token.id,
    )


def _text(status: JobStatus) -> str:
    text: dict[Any, str] = {
        JobStatus.QUEUING: "Recording stored; it will be queued as soon as the queue is back",
        JobStatus.QUEUED: "Recording stored and queued for analysis",
    }
    return text.get(status, f"Recording stored; its job is {status}")
