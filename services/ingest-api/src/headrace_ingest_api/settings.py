"""What the ingest API can be told by environment variables."""

from datetime import timedelta

from pydantic import Field

from headrace_common.settings import (
    S3_MIN_PART_BYTES,
    DatabaseSettings,
    JobStreamSettings,
    ProcessSettings,
    S3Settings,
    SqsSettings,
)

_MIB = 1024 * 1024
_GIB = 1024 * _MIB
#: S3 takes at most so many parts an upload:
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_S3_MAX_PARTS = 10_000
#: So large a part fits any machine that takes several at a time.
_MAX_PART_BYTES = 256 * _MIB


class IngestSettings(ProcessSettings, DatabaseSettings, JobStreamSettings, S3Settings, SqsSettings):
    """Settings of the ingest API.

    An upload holds at most UPLOAD_PART_BYTES * (UPLOAD_PARTS_IN_FLIGHT + 1) bytes in memory, and
    the process MAX_CONCURRENT_UPLOADS times that.
    """

    max_upload_bytes: int = Field(
        default=5 * _GIB, ge=1, description="Largest file taken; more is 413"
    )
    upload_part_bytes: int = Field(
        default=8 * _MIB,
        ge=S3_MIN_PART_BYTES,
        le=_MAX_PART_BYTES,
        description="Bytes collected before they go to S3 as one part",
    )
    upload_parts_in_flight: int = Field(
        default=2, ge=1, le=16, description="Parts of one file that go to S3 at the same time"
    )
    max_concurrent_uploads: int = Field(
        default=32, ge=1, le=10_000, description="Uploads at the same time; more are 503"
    )
    upload_stall_seconds: float = Field(
        default=30, gt=0, le=3_600, description="An upload without a byte for so long is ended: 408"
    )
    upload_min_bytes_per_second: float = Field(
        default=1_024,
        ge=0,
        description="A client that is slower on average is ended too, so that none holds a place "
        "for ever; 0: no limit",
    )
    max_reference_bytes: int = Field(
        default=5 * _MIB, ge=1, description="Largest TextGrid or pitch file of a token"
    )
    idempotency_key_hours: float = Field(
        default=24, ge=24, description="How long an Idempotency-Key is remembered"
    )

    @property
    def idempotency_key_lifetime(self) -> timedelta:
        """How long an Idempotency-Key is remembered."""
        return timedelta(hours=self.idempotency_key_hours)

    @property
    def part_bytes(self) -> int:
        """Bytes of a part: as set, or more where the largest file would need too many parts."""
        return max(self.upload_part_bytes, -(-self.max_upload_bytes // _S3_MAX_PARTS))
