"""The job of an upload, from its creation to its message on the lane's queue.

Three steps change the database, each in one transaction; between them lie S3 and Redis. The
message's id is chosen before it is sent and stored with `queuing`, so that a job whose message
never reached Redis is known and sent again (the dispatcher's sweep does).
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

import structlog
from pydantic import JsonValue
from sqlalchemy import func, select
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
from headrace_ingest_api.answers import UploadAnswer, spoken_time, text_of
from headrace_ingest_api.begin import Begin
from headrace_ingest_api.errors import AcceptanceUnknownError
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys, fingerprint
from headrace_ingest_api.probe import AudioFacts
from headrace_ingest_api.recognition import Container
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.tokens import TokenReference
from headrace_ingest_api.watch import overtaken

log = structlog.get_logger()


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
    begin: Begin = field(default_factory=Begin)

    @property
    def fingerprint(self) -> str:
        """What a repetition of the upload has to equal."""
        return fingerprint(
            token_id=self.recording.token.id,
            lane=self.lane,
            file_sha256=self.sha256,
            begin=self.begin,
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

        From the first commit on the job is accepted, whatever happens to this process. One that
        begins later has no message yet: a dispatcher queues it.

        Raises:
            UploadOvertakenError: the job was cancelled or ended meanwhile.
            KeyInUseError: another request took the idempotency key over.
            AcceptanceUnknownError: nobody here can know whether the commit arrived.
        """
        job_id = stored.recording.job_id
        outcomes, answer = self._accept(stored, claim)
        self._store.publish(outcomes)
        if not outcomes[-1].applied:
            raise overtaken(job_id, outcomes[-1].status)
        if answer.queue_message_id is None:
            return answer
        try:
            return self._send(stored, answer, claim)
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
        self, stored: StoredRecording, claim: Claim | None
    ) -> tuple[list[Outcome], UploadAnswer]:
        commits = False
        try:
            with self._database.begin() as session:
                changes, answer = _acceptance(session, stored)
                outcomes = self._store.apply_in(session, changes)
                if outcomes[-1].applied and claim is not None:
                    self._remember(session, claim, stored, answer)
                commits = True
        except SQLAlchemyError as error:
            if commits:
                raise AcceptanceUnknownError("the database went away; try again") from error
            raise
        return outcomes, answer

    def _send(
        self, stored: StoredRecording, accepted: UploadAnswer, claim: Claim | None
    ) -> UploadAnswer:
        lane, job_id = stored.lane, stored.recording.job_id
        message = new_message(
            dispatch_actor(lane),
            lane.queue_name,
            DispatchJob(job_id=job_id),
            message_id=accepted.queue_message_id,
        )
        send(self._broker, message)
        queued = Change(job_id=job_id, to=JobStatus.QUEUED, message="Waiting in the queue")
        with self._database.begin() as session:
            outcomes = self._store.apply_in(session, [queued])
            status, place = outcomes[0].status, JobQueries(session).places([job_id]).get(job_id, 0)
            told = {"message": text_of(status, None), "status": status, "queue_position": place}
            answer = accepted.model_copy(update=told)
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


def _acceptance(session: Session, stored: StoredRecording) -> tuple[list[Change], UploadAnswer]:
    """Return what makes the job accepted, and the answer that is true then.

    The database's clock decides whether it begins at once, as it will when the time has come.
    """
    run_at, is_later = None, False
    if stored.begin.is_later:
        now = session.execute(select(func.clock_timestamp())).scalar_one()
        run_at = stored.begin.at(now)
        is_later = run_at > now
    message_id = None if is_later else str(uuid4())
    status = JobStatus.SCHEDULED if is_later else JobStatus.QUEUING
    change = Change(
        job_id=stored.recording.job_id,
        to=status,
        message=f"Scheduled for {spoken_time(run_at)}"
        if run_at is not None and is_later
        else f"Going into the queue {stored.lane.queue_name}",
        data={"run_at": run_at.isoformat()} if run_at is not None else {},
        queue_message_id=message_id,
        run_at=run_at,
    )
    return [_stored_change(stored), change], _answer(stored, message_id, status, run_at)


def _stored_change(stored: StoredRecording) -> Change:
    audio: dict[str, JsonValue] = stored.facts.model_dump(mode="json")
    return Change(
        job_id=stored.recording.job_id,
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


def _answer(
    stored: StoredRecording, message_id: str | None, status: JobStatus, run_at: datetime | None
) -> UploadAnswer:
    return UploadAnswer(
        message=text_of(status, run_at),
        job_id=stored.recording.job_id,
        queue_message_id=message_id,
        rq_job_id=message_id,
        status=status,
        priority=stored.lane,
        queue_position=0,
        token_id=stored.recording.token.id,
        run_at=run_at,
    )
