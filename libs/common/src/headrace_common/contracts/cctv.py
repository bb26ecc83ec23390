"""The camera path on the wire: entries of the job stream (V1), and reports on them (V9).

The producer of entries is a Java service; nothing but these flat string fields ties it to us.
The gpu-preprocessor reports what becomes of an entry on a second stream, in the same atomic step
that acknowledges, repeats or gives up the entry, so that no report is lost on the way.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from headrace_common.contracts.regions import RegionText, region_text
from headrace_common.errors import UnprocessableError

DEFAULT_STREAM: Final = "stream:preprocess"
DEFAULT_GROUP: Final = "workers"
DEFAULT_DLQ_STREAM: Final = "stream:preprocess:dlq"
DEFAULT_CONTAINER: Final = "cctv-preprocess"
DEFAULT_UPLOAD_PREFIX: Final = "preprocess/"
#: What becomes of entries; the results service reads it with the group RESULTS_GROUP.
REPORTS_SUFFIX: Final = ":reports"
RESULTS_GROUP: Final = "results"
#: Sorted set of the entries that wait for their next attempt, by the time it is due in ms; each
#: is JSON with the entry's flat fields as `fields`.
DELAYED_SUFFIX: Final = ":delayed"
#: Hash of job ids that are not to be worked on any more, each with the time in ms at which it was
#: cancelled, a space, and the run that was: later ones are not. Looked at when an entry begins and
#: while it is worked on.
CANCELLED_SUFFIX: Final = ":cancelled"
#: Exists while the stream is paused: workers take nothing new. Its value says why.
PAUSED_SUFFIX: Final = ":paused"
#: Sorted set of jobs that have ended, by the time in ms from which on what their runs left in Swift
#: beside the result is removed. Each is a SettledJob as JSON.
SETTLED_SUFFIX: Final = ":settled"
#: Sorted set of the ids of purged jobs of which nothing is left in Swift, by the time in ms at
#: which that was made sure. Their rows are removed then.
PURGED_SUFFIX: Final = ":purged"
#: Set of the ids of jobs whose entry a worker lost while it worked: frozen for long, it may have
#: stored something after the job was settled.
SUSPECTS_SUFFIX: Final = ":suspects"
#: Stream of the reports that could not be kept, after the name of the stream of jobs.
DEAD_REPORTS_SUFFIX: Final = f"{REPORTS_SUFFIX}:dlq"
#: Fields of an entry of the report stream: the CctvReport as JSON, and the W3C trace context.
REPORT_FIELD: Final = "report"

#: A clip of an hour is no clip.
MAX_CLIP_SECONDS: Final = 600
#: Of what a report tells people.
MAX_MESSAGE_LENGTH: Final = 1_000
_MAX_ID_LENGTH: Final = 200
_MAX_URL_LENGTH: Final = 4_096
#: Between the time and the run, in a set's folder.
_RUN_MARK: Final = "-run"
#: Name space of the ids of jobs whose producer gave none.
_JOB_IDS: Final = uuid.UUID("6f0c7a52-5a0e-4d5e-9d0c-2f4b3e1c8a77")


class MalformedEntryError(UnprocessableError):
    """A stream entry that is no job."""

    code = "malformed_entry"
    title = "Malformed stream entry"


def _path_part(value: str) -> str:
    """Check what becomes one part of an object's path."""
    if not value.strip() or len(value) > _MAX_ID_LENGTH or value in {".", ".."}:
        raise ValueError(f"must have 1 to {_MAX_ID_LENGTH} characters")
    if "/" in value or not value.isprintable():
        raise ValueError("must have neither a slash nor control characters")
    return value


def _url(value: str) -> str:
    if not value.startswith(("http://", "https://")) or not value.isprintable():
        raise ValueError("must be an http:// or https:// URL")
    return value


CameraId = Annotated[str, AfterValidator(_path_part)]
StreamUrl = Annotated[str, Field(max_length=_MAX_URL_LENGTH), AfterValidator(_url)]
ClipSeconds = Annotated[float, Field(gt=0, le=MAX_CLIP_SECONDS)]


class PreprocessEntry(BaseModel):
    """One job on the stream.

    Fields that are not named here are kept and come back by `fields`, in retries and dead
    letters too.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    cctv_id: CameraId = Field(alias="cctvId")
    hls: StreamUrl
    sec: ClipSeconds
    attempt: int = Field(default=0, ge=0, le=1_000)
    enqueued_at: int = Field(alias="enqueuedAt", ge=0, description="Milliseconds since 1970")
    given_job_id: CameraId | None = Field(default=None, alias="jobId")
    job_run: int = Field(
        default=1,
        ge=1,
        alias="jobRun",
        description="Counts up each time somebody asks to do the job anew; left out while 1",
    )
    # Producers have a `region` of their own, which is kept as it comes.
    road_region: RegionText | None = Field(
        default=None,
        alias="roadRegion",
        description="Where the road is: polygons as JSON; left out where it is not said",
    )

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> Self:
        """Read the flat fields of an entry.

        Raises:
            MalformedEntryError: a field is missing or makes no sense; each fault is named.
        """
        try:
            return cls.model_validate({name: value for name, value in fields.items() if value})
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            )
            raise MalformedEntryError(faults) from None

    @property
    def job_id(self) -> str:
        """The job's id: the producer's, or one derived from what the entry says.

        An entry that is added twice, by a producer that was not sure, is one job.
        """
        if self.given_job_id is not None:
            return self.given_job_id
        told = "\0".join((self.cctv_id, self.hls, f"{self.sec:g}", str(self.enqueued_at)))
        return str(uuid.uuid5(_JOB_IDS, told))

    @property
    def trace(self) -> dict[str, str]:
        """W3C trace context that came with the entry; empty if none."""
        extra = self.model_extra or {}
        return {name: str(extra[name]) for name in ("traceparent", "tracestate") if name in extra}

    def fields(self, *, attempt: int | None = None) -> dict[str, str]:
        """Return the flat fields, as they are written to a stream, with the job's id.

        Args:
            attempt: instead of the entry's own.
        """
        return {
            **{name: str(value) for name, value in (self.model_extra or {}).items()},
            "cctvId": self.cctv_id,
            "hls": self.hls,
            "sec": f"{self.sec:g}",
            "attempt": str(self.attempt if attempt is None else attempt),
            "enqueuedAt": str(self.enqueued_at),
            "jobId": self.job_id,
            **({"jobRun": str(self.job_run)} if self.job_run > 1 else {}),
            **({"roadRegion": region_text(self.road_region)} if self.road_region else {}),
        }


class ArtifactName(StrEnum):
    """The five artefacts of a job (V3), in the order they are uploaded."""

    BACKGROUND = "background.jpg"
    BACKGROUND_META = "background_meta.json"
    DAMAGE_ANALYSIS = "damage_analysis.json"
    DAMAGE_RESULT = "damage_result.jpg"
    #: Written last: its presence means that the set is whole.
    PROCESS_META = "process_meta.json"

    @property
    def content_type(self) -> str:
        """Its media type."""
        return "image/jpeg" if self.endswith(".jpg") else "application/json"


def job_folder(prefix: str, cctv_id: str, job_id: str) -> str:
    """Return the path, with a slash at its end, under which all sets of a job lie."""
    return f"{prefix}{cctv_id}/{job_id}/"


def set_timestamp(at: datetime, run: int = 1) -> str:
    """Return the folder of a set that was begun `at`: sorts by time, safe in any path.

    Args:
        at: when it was begun.
        run: of the job; each has sets of its own. From the second on it is part of the name.
    """
    moment = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
    return moment if run == 1 else f"{moment}{_RUN_MARK}{run}"


def run_of_folder(folder: str) -> int:
    """Return the run of the job that a set is of; `folder` may end with a slash."""
    _, mark, run = folder.rstrip("/").rpartition("/")[2].partition(_RUN_MARK)
    return int(run) if mark and run.isdecimal() else 1


class CctvState(StrEnum):
    """Where an entry is."""

    #: It waits: in the stream, or for its next attempt.
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    #: Given up; the entry is in the dead-letter stream.
    FAILED = "failed"
    #: Not worked on, or no further, because the job is cancelled; nothing is kept.
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """What is done with an entry, in this order."""

    READING = "reading"
    BACKGROUND = "background"
    DETECTING = "detecting"
    UPLOADING = "uploading"


class CctvError(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(max_length=100, description="Stable, for programs")
    message: str = Field(max_length=MAX_MESSAGE_LENGTH, description="Readable, for people")


class StoredArtifact(BaseModel):
    """One artefact in Swift."""

    model_config = ConfigDict(frozen=True)

    object: str = Field(description="Path within the container")
    sha256: str = Field(min_length=64, max_length=64)
    bytes: int = Field(ge=0)
    content_type: str


class CctvResult(BaseModel):
    """What a completed job has: the job's `result`."""

    model_config = ConfigDict(frozen=True)

    storage_url: str = Field(description="Swift account, https://host/v1/AUTH_project")
    container: str
    folder: str = Field(description="Path of the set within the container, ends with a slash")
    artifacts: dict[ArtifactName, StoredArtifact]
    quality: float = Field(ge=0, le=1, description="Of the background")
    damages: int = Field(ge=0)
    damages_by_class: dict[str, int] = Field(default_factory=dict)
    damaged_share: float = Field(ge=0, le=1, description="Of the road, by area")
    worst_severity: str | None = None
    summary: dict[str, JsonValue] = Field(default_factory=dict)


class SettledJob(BaseModel):
    """A run of a job that has ended: of its sets one is kept, or none."""

    model_config = ConfigDict(frozen=True)

    job_id: CameraId
    cctv_id: CameraId
    run: int = Field(ge=1)
    folder: str | None = Field(description="Of the job's result; None where it has none")
    purged: bool = Field(
        default=False,
        description="The job is about to be removed: nothing is kept, of no run",
    )


class CctvReport(BaseModel):
    """What the gpu-preprocessor says of a job; it has all that is needed to create the job's row.

    Reports may come late, twice and out of order.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    entry: dict[str, str] = Field(description="The entry's flat fields")
    entry_id: str = Field(description="Id of the entry in the stream")
    state: CctvState
    stage: Stage | None = None
    progress: float | None = Field(default=None, ge=0, le=100, description="Per cent of the work")
    message: str = Field(max_length=MAX_MESSAGE_LENGTH)
    delivery: int = Field(default=1, ge=1, description="Times that this entry was handed out")
    consumer: str
    retry_at: datetime | None = Field(default=None, description="When the next attempt is due")
    error: CctvError | None = None
    result: CctvResult | None = None
    at: datetime

    def stream_fields(self, trace: Mapping[str, Any]) -> dict[str, str]:
        """Return the flat fields of the report stream's entry.

        Args:
            trace: W3C trace-context fields, may be empty.
        """
        told = {name: str(trace[name]) for name in ("traceparent", "tracestate") if name in trace}
        return {REPORT_FIELD: self.model_dump_json(exclude_none=True), **told}
