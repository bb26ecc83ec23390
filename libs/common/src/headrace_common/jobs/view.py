"""A job as every API, the command line and the console show it."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db.models import Job
from headrace_common.telemetry.secrets import deeply_without_url_values
from headrace_common.telemetry.trace import trace_id_of


class JobErrorView(BaseModel):
    """Why a job failed."""

    code: str = Field(description="Stable, for programs")
    message: str = Field(description="Readable, for people")


class JobView(BaseModel):
    """A job."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    kind: JobKind
    status: JobStatus
    progress: int = Field(ge=0, le=100, description="Per cent")
    message: str = Field(description="What happens, for people")
    priority: Lane
    token_id: str | None
    transport: str | None = Field(description="How it went to an analysis server: sqs or http")
    rq_job_id: str | None = Field(description="Old name of queue_message_id")
    queue_message_id: str | None
    run: int = Field(ge=1, description="Counts up each time somebody asks to do the job anew")
    run_at: datetime | None = Field(
        description="When its client wanted it begun; null: at once. While `scheduled` it waits "
        "until then"
    )
    retry_at: datetime | None = Field(description="It waits until then for its next try")
    waiting_for: str | None = Field(
        description="The dependency at fault that it waits for, `sqs` for instance"
    )
    input: dict[str, JsonValue]
    metadata: dict[str, JsonValue]
    result: dict[str, JsonValue] | None
    error: JobErrorView | None
    trace_id: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    retain_until: datetime | None = Field(description="When it may be purged; null: never")

    @classmethod
    def of(cls, job: Job) -> "JobView":
        """Show a row.

        A camera's URL may carry credentials, under any name, which the row must keep and nobody
        is shown. What an audio job has is shown as it is: its URLs are answers, made to be used.
        """
        camera = job.kind == JobKind.CCTV_PREPROCESS
        return cls(
            job_id=job.id,
            kind=JobKind(job.kind),
            status=JobStatus(job.status),
            progress=job.progress,
            message=job.message,
            priority=Lane(job.lane),
            token_id=job.token_id,
            transport=job.transport,
            rq_job_id=job.queue_message_id,
            queue_message_id=job.queue_message_id,
            run=job.run,
            run_at=job.run_at,
            retry_at=job.retry_at,
            waiting_for=job.waiting_for,
            input=deeply_without_url_values(job.input) if camera else job.input,
            metadata=job.meta,
            result=job.result,
            error=JobErrorView(code=job.error_code, message=job.error_message or "")
            if job.error_code
            else None,
            trace_id=trace_id_of(job.trace),
            created_at=job.created_at,
            updated_at=job.updated_at,
            finished_at=job.finished_at,
            retain_until=job.retain_until,
        )
