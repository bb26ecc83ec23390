"""What goes to an analysis server (A5) and what comes back from it (A10)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from headrace_common.contracts.lanes import Lane

JOB_TYPE: Final = "audio_analysis"
SOURCE: Final = "fastapi_backend"
#: Key of a job's metadata: per cent that the analysis server itself told last; null or absent
#: while the one that was asked last has told none.
ANALYSIS_PROGRESS: Final = "analysis_progress"
#: Ends the job id of a copy that is sent to the other side of a roll-out to compare the answers.
#: It is part of the id, so that whatever an analysis server answers, by whatever way, tells.
SHADOW_SUFFIX: Final = ".shadow"
#: Key of a job's metadata: the run whose stored artefacts are removed, or about to be, and when.
ARTIFACTS_EXPIRED: Final = "artifacts_expired"


def results_folder(job_id: str) -> str:
    """Return what the keys begin with under which an analysis server stores results of a job."""
    # The id comes from outside: quoted, it stays one part of the path.
    return f"results/{quote(job_id, safe='')}/"


class AnalysisRequest(BaseModel):
    """The body of the SQS message, and of the POST of the HTTP transport, to the letter of A5."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    s3_audio_url: str = Field(description="s3://bucket/key of the recording")
    token_id: str
    video_id: str = Field(description="The token id again: the name older analysis servers read")
    s3_textgrid_url: str | None
    s3_pitch_url: str | None
    callback_url: str
    webhook_url: str = Field(description="The same URL as callback_url")
    timestamp: datetime
    source: Literal["fastapi_backend"] = SOURCE

    def body(self) -> str:
        """Return the JSON text that is sent."""
        return self.model_dump_json()

    @staticmethod
    def attributes(lane: Lane, trace: dict[str, str]) -> dict[str, dict[str, str]]:
        """Return the SQS message attributes: job type, priority and the W3C trace context.

        Args:
            lane: the job's lane.
            trace: W3C trace-context fields (`traceparent`, `tracestate`), may be empty.
        """
        values = {"job_type": JOB_TYPE, "priority": lane.value, **trace}
        return {
            name: {"DataType": "String", "StringValue": value} for name, value in values.items()
        }


class ReportReceipt(BaseModel):
    """What a webhook is answered: the report is kept and will be applied.

    `stop` is how an analysis server learns that its work is not wanted any more.
    """

    status: Literal["accepted"] = "accepted"
    job_id: str
    duplicate: bool = Field(description="Whether this very report came in before")
    delivery: int = Field(ge=1, description="How often it came in, this time included")
    job_status: str = Field(description="Of the job, before this report is applied")
    stop: bool = Field(
        description="Whether to stop working on the job: it was cancelled, is finished, or was "
        "begun anew since this analysis was asked for"
    )


class ReportStatus(StrEnum):
    """What an analysis server says of a job."""

    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


# Words that analysis servers in the field use for the same three things.
_STATUS_WORDS: Final = {
    "success": ReportStatus.COMPLETED,
    "succeeded": ReportStatus.COMPLETED,
    "complete": ReportStatus.COMPLETED,
    "done": ReportStatus.COMPLETED,
    "error": ReportStatus.FAILED,
    "failure": ReportStatus.FAILED,
    "in_progress": ReportStatus.PROCESSING,
    "running": ReportStatus.PROCESSING,
    "started": ReportStatus.PROCESSING,
}


#: Characters of a text for people that are kept with the job; its report keeps it whole.
_MAX_TEXT: Final = 1_000
ShortText = Annotated[str, AfterValidator(lambda text: text[:_MAX_TEXT])]


class ReportError(BaseModel):
    """Why an analysis failed."""

    code: str = Field(default="analysis_failed", max_length=100, description="Stable, for programs")
    message: ShortText = Field(description="Readable, for people; cut after 1,000 characters")


class AnalysisReport(BaseModel):
    """What an analysis server says of a job: progress, success or failure.

    The body of the webhook and of a message on the result queue. Fields not named here are
    kept with the received report and otherwise ignored.
    """

    model_config = ConfigDict(extra="allow")

    job_id: str | None = Field(
        default=None, description="Must equal ?job_id=, where both are given"
    )
    job_run: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Run of the job, on the result queue; a webhook tells it by ?run=",
    )
    status: ReportStatus
    progress: float | None = Field(
        default=None, ge=0, le=100, description="Per cent of the analysis"
    )
    message: ShortText | None = Field(default=None, description="Cut after 1,000 characters")
    heartbeat: bool | None = Field(
        default=None,
        description="Only a sign of life of a job that is `processing`: not kept, no progress",
    )
    result: dict[str, JsonValue] | None = None
    error: ReportError | None = None
    timestamp: datetime | None = None

    @field_validator("status", mode="before")
    @classmethod
    def _known_words(cls, value: Any) -> Any:
        return _STATUS_WORDS.get(value.lower(), value.lower()) if isinstance(value, str) else value

    @field_validator("heartbeat", mode="before")
    @classmethod
    def _plain_heartbeat(cls, value: Any) -> Any:
        # A field of that name was no part of this once: what it says otherwise is no fault.
        return True if value is True else None

    @field_validator("error", mode="before")
    @classmethod
    def _plain_text_error(cls, value: Any) -> Any:
        return {"message": value} if isinstance(value, str) else value

    @property
    def is_heartbeat(self) -> bool:
        """Whether it says nothing but that the job is worked on."""
        return self.heartbeat is True and self.status is ReportStatus.PROCESSING

    @model_validator(mode="after")
    def _failure_has_a_reason(self) -> Self:
        if self.status is ReportStatus.FAILED and self.error is None:
            self.error = ReportError(message=self.message or "the analysis server gave no reason")
        return self
