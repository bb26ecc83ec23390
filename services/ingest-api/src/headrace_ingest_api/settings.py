"""What the ingest API can be told by environment variables."""

from datetime import timedelta

from pydantic import Field

from headrace_common.settings import (
    S3_MIN_PART_BYTES,
    CircuitSettings,
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
S3_MAX_PARTS = 10_000
#: And no longer life of a presigned URL: seven days.
_S3_MAX_URL_SECONDS = 604_800
#: So large a part fits any machine that takes several at a time.
_MAX_PART_BYTES = 256 * _MIB


class IngestSettings(
    ProcessSettings, DatabaseSettings, JobStreamSettings, S3Settings, SqsSettings, CircuitSettings
):
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

    max_run_delay_days: int = Field(
        default=365, ge=0, le=3_650, description="How far ahead a job may be told to begin"
    )

    direct_upload_part_bytes: int = Field(
        default=8 * _MIB,
        ge=S3_MIN_PART_BYTES,
        le=_MAX_PART_BYTES,
        description="Bytes of a part that a client sends to S3 itself; more where a file would "
        "need more than 10,000",
    )
    direct_upload_expiry_hours: float = Field(
        default=24, gt=0, le=24 * 365, description="A direct upload not completed by then is ended"
    )
    direct_upload_url_seconds: int = Field(
        default=3_600, ge=1, le=_S3_MAX_URL_SECONDS, description="How long a part's URL is good for"
    )
    direct_upload_verify: bool = Field(
        default=True,
        description="Read a directly uploaded file once to check its SHA-256; false believes the "
        "client, who must tell it",
    )
    max_open_direct_uploads: int = Field(
        default=100, ge=1, description="Direct uploads under way of one API key; more are 429"
    )
    direct_completions: int = Field(
        default=4, ge=1, le=64, description="Direct uploads completed at a time; others wait"
    )

    storage_discard_retry_seconds: float = Field(
        default=60, gt=0, description="What could not be removed from S3 is tried again after that"
    )
    storage_scan_days: int = Field(
        default=7,
        ge=0,
        le=365,
        description="The folders of so many last days are searched; 0: none is",
    )
    storage_orphan_hours: float | None = Field(
        default=None,
        gt=0,
        description="What no job knows is removed at this age; unset: it is only counted. Never "
        "set it where the bucket is shared, nor below the age of a backup that the database may "
        "be restored from",
    )

    @property
    def max_run_delay(self) -> timedelta:
        """How far ahead a job may be told to begin."""
        return timedelta(days=self.max_run_delay_days)

    result_retention_days: float | None = Field(
        default=None,
        gt=0,
        description="How long what analysis servers stored of a job in S3 is kept after its end; "
        "unset: as long as the job",
    )
    shadow_retention_days: float = Field(
        default=1,
        gt=0,
        description="The same of copies that were sent to compare, after their answer",
    )

    @property
    def result_retention(self) -> timedelta | None:
        """How long artefacts are kept; None: as long as the job."""
        days = self.result_retention_days
        return None if days is None else timedelta(days=days)

    @property
    def shadow_retention(self) -> timedelta:
        """How long the artefacts of copies are kept."""
        return timedelta(days=self.shadow_retention_days)

    @property
    def direct_upload_lifetime(self) -> timedelta:
        """How long a client has for a direct upload."""
        return timedelta(hours=self.direct_upload_expiry_hours)

    @property
    def storage_orphan_age(self) -> timedelta | None:
        """At which age what no job knows is removed; None: never."""
        hours = self.storage_orphan_hours
        return None if hours is None else timedelta(hours=hours)

    @property
    def idempotency_key_lifetime(self) -> timedelta:
        """How long an Idempotency-Key is remembered."""
        return timedelta(hours=self.idempotency_key_hours)

    @property
    def part_bytes(self) -> int:
        """Bytes of a part: as set, or more where the largest file would need too many parts."""
        return max(self.upload_part_bytes, -(-self.max_upload_bytes // S3_MAX_PARTS))
