"""What direct uploads take and answer over HTTP."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_ingest_api.begin import DELAY, DELAY_TEXT, RUN_AT, RUN_AT_TEXT, Begin

#: URLs that one request gets.
MAX_URLS: Final = 100

Sha256Hex = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Md5Hex = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Etag = Annotated[str, StringConstraints(min_length=1, max_length=200)]
PartNumber = Annotated[int, Field(ge=1, le=10_000)]

_EXAMPLE: Final[dict[str, Any]] = {
    "filename": "interview.wav",
    "size": 314572844,
    "sha256": "0f343b0931126a20f133d67c2b018a3b5f1d0f4b7b5c1c5c7d1c2b0a99887766",
    "priority": "normal",
}


class NewDirectUpload(BaseModel):
    """A file to be sent straight to S3."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    filename: str = Field(min_length=1, max_length=1_000)
    size: int = Field(ge=1, description="Bytes")
    sha256: Sha256Hex | None = Field(
        default=None, description="Of the whole file; checked at the end"
    )
    content_type: str | None = Field(default=None, max_length=200)
    priority: Lane = Lane.NORMAL
    run_at: str | None = Field(default=None, max_length=100, description=RUN_AT_TEXT)
    delay: float | str | None = Field(default=None, description=DELAY_TEXT)

    @property
    def begin(self) -> Begin:
        """When its job is to begin.

        Raises:
            InvalidBeginError: it cannot be understood.
        """
        delay = "" if self.delay is None else str(self.delay)
        return Begin.read({RUN_AT: self.run_at or "", DELAY: delay})


class PartWish(BaseModel):
    """A part that a client wants to send."""

    model_config = ConfigDict(extra="forbid")

    number: PartNumber
    md5: Md5Hex | None = Field(
        default=None,
        description="Of its bytes. S3 then refuses anything else: `headers` must be sent along",
    )


class PartWishes(BaseModel):
    """Parts whose URLs are wanted."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"parts": [{"number": 7}]}}
    )

    parts: list[PartWish] = Field(min_length=1, max_length=MAX_URLS)


class PartUrl(BaseModel):
    """Where a part is to be put. Whoever has the URL may do so while it is good."""

    number: int
    size: int = Field(description="The Content-Length that it must have")
    url: str
    method: str = "PUT"
    headers: dict[str, str] = Field(description="To be sent with it, as they are")
    expires_at: datetime


class PartUrls(BaseModel):
    """The URLs that were asked for."""

    urls: list[PartUrl]


class PartView(BaseModel):
    """A part that S3 has."""

    number: int
    size: int
    etag: str = Field(description="The hex MD5 of its bytes, unless S3 encrypts by KMS")


class DirectUploadState(StrEnum):
    """Where a direct upload is."""

    OPEN = "open"  #: parts may be sent
    STORED = "stored"  #: S3 has the whole file; complete it once more
    ACCEPTED = "accepted"  #: its job goes on by itself
    ENDED = "ended"  #: cancelled, refused or expired; S3 keeps nothing of it


class DirectUploadView(BaseModel):
    """A direct upload."""

    job_id: str
    job_status: JobStatus
    state: DirectUploadState
    size: int
    part_bytes: int
    part_count: int
    sha256: str | None
    expires_at: datetime = Field(description="Ended by itself unless completed by then")
    parts: list[PartView] = Field(description="Those that S3 has")
    missing: list[int] = Field(description="Numbers of those that it has not, or of another size")


class OpenedDirectUpload(DirectUploadView):
    """A direct upload, with the URLs of the first parts to send."""

    urls: list[PartUrl]


class ClaimedPart(BaseModel):
    """A part as its sender knows it."""

    model_config = ConfigDict(extra="forbid")

    number: PartNumber
    etag: Etag = Field(description="What S3 answered, or the hex MD5 of the bytes")


class CompletionWish(BaseModel):
    """What a client says of its parts, so that a wrong one is found before the file is made."""

    model_config = ConfigDict(extra="forbid")

    parts: list[ClaimedPart] = Field(default=[], max_length=10_000)

    def etags(self) -> dict[int, str]:
        """Return the ETags by number, without quotes."""
        return {part.number: part.etag.strip('"') for part in self.parts}
