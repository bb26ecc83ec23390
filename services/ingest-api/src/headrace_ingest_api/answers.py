"""What an upload is answered, by whichever way the recording came."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Job
from headrace_common.jobs import JobQueries


class UploadAnswer(BaseModel):
    """What an upload is answered (A1)."""

    message: str = Field(description="What happened, for people")
    job_id: str
    queue_message_id: str | None = Field(
        description="Id of the message on the lane's queue; null while the job is `scheduled`"
    )
    rq_job_id: str | None = Field(description="Old name of queue_message_id")
    status: JobStatus = Field(
        description="`queued`; `queuing` while the queue is away, which sends the job later by "
        "itself; `scheduled` where it begins later; or further on, where a worker was quicker "
        "than this answer"
    )
    priority: Lane
    queue_position: int = Field(
        ge=0,
        description="Place in the lane, from 1; 0 when the job does not wait in it: a worker took "
        "it already, the queue has not taken it yet, or it begins later",
    )
    token_id: str
    run_at: datetime | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="When the job begins, if that was asked for; else left out",
    )


def accepted_answer(session: Session, job: Job) -> UploadAnswer:
    """Return what the upload of an accepted job is answered when it is asked for again."""
    status = JobStatus(job.status)
    return UploadAnswer(
        message=text_of(status, job.run_at),
        job_id=job.id,
        queue_message_id=job.queue_message_id,
        rq_job_id=job.queue_message_id,
        status=status,
        priority=Lane(job.lane),
        queue_position=JobQueries(session).places([job.id]).get(job.id, 0),
        token_id=job.token_id or "",
        run_at=job.run_at,
    )


def text_of(status: JobStatus, run_at: datetime | None) -> str:
    """Say what happened, for people."""
    text: dict[Any, str] = {
        JobStatus.QUEUING: "Recording stored; it will be queued as soon as the queue is back",
        JobStatus.QUEUED: "Recording stored and queued for analysis",
    }
    if status is JobStatus.SCHEDULED and run_at is not None:
        return f"Recording stored and scheduled for {spoken_time(run_at)}"
    return text.get(status, f"Recording stored; its job is {status}")


def spoken_time(time: datetime) -> str:
    """Say a time, for people anywhere."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
