"""Settings of the stream consumer (V10)."""

import socket
from typing import Annotated, Any, Final, Self

from pydantic import Field, field_validator, model_validator

from headrace_common.contracts.cctv import (
    CANCELLED_SUFFIX,
    DEFAULT_GROUP,
    DEFAULT_STREAM,
    DELAYED_SUFFIX,
    PAUSED_SUFFIX,
    PURGED_SUFFIX,
    REPORTS_SUFFIX,
    RESULTS_GROUP,
    SETTLED_SUFFIX,
    SUSPECTS_SUFFIX,
)
from headrace_common.settings import JobStreamSettings

#: Entries that were handed back stay pending with this consumer until somebody takes them.
HANDED_BACK: Final = "handed-back"
#: More would only wait for one another on any GPU that is sold.
MOST_CONCURRENCY: Final = 32

_KeyName = Annotated[str, Field(min_length=1, max_length=200)]


def _dlq_of(given: dict[str, Any]) -> str:
    return f"{given.get('redis_stream', DEFAULT_STREAM)}:dlq"


class StreamSettings(JobStreamSettings):
    """The stream of jobs, and how it is worked on."""

    redis_group: _KeyName = DEFAULT_GROUP
    redis_block_ms: int = Field(
        default=5_000, ge=100, le=60_000, description="How long one read waits for new entries"
    )
    redis_batch_count: int = Field(
        default=20, ge=1, le=1_000, description="Entries of one read; never more than free slots"
    )
    redis_visibility_timeout: float = Field(
        default=300,
        ge=0.5,
        le=86_400,
        description="Seconds after which others take over the entries of a process that is silent. "
        "Live ones renew three times as often",
    )
    redis_max_retry: int = Field(
        default=3, ge=0, le=100, description="An entry whose attempt reached this is not repeated"
    )
    redis_dlq_stream: _KeyName = Field(
        default_factory=_dlq_of, description="Dead letters; REDIS_STREAM plus `:dlq` unless given"
    )
    redis_max_deliveries: int = Field(
        default=3,
        ge=1,
        le=100,
        description="An entry whose process died so often is not handed out again",
    )
    redis_retry_base_seconds: float = Field(
        default=5, ge=0, le=3_600, description="Before the first retry; doubled for each further"
    )
    redis_retry_max_seconds: float = Field(default=300, ge=0, le=86_400)
    redis_promote_seconds: float = Field(
        default=1, ge=0.05, le=60, description="Between two looks for entries whose retry is due"
    )
    redis_observe_seconds: float = Field(
        default=5, ge=0.05, le=300, description="Between two looks at the group, for the metrics"
    )
    redis_trim_seconds: float = Field(
        default=60, ge=0.05, le=86_400, description="Between two trims of what all groups have done"
    )
    redis_consumer_expiry_seconds: float = Field(
        default=3_600, ge=0.05, description="A consumer silent for so long is removed once empty"
    )
    redis_cancelled_seconds: float = Field(
        default=604_800,
        ge=1,
        description="Cancelled jobs are remembered for so long; longer than an entry may wait",
    )
    redis_report_cap: int = Field(
        default=10_000,
        ge=1,
        description="No reports on progress while so many reports wait to be read. What ends or "
        "repeats a job is always reported",
    )
    systemic_pause_seconds: float = Field(
        default=5,
        gt=0,
        le=3_600,
        description="Nothing is begun for so long when what every job needs is at fault, as Swift; "
        "then one job tries, and the pause doubles for each that meets the fault again",
    )
    systemic_pause_max_seconds: float = Field(
        default=60, gt=0, le=3_600, description="The longest of these pauses"
    )
    consumer_name: _KeyName = Field(
        default_factory=socket.gethostname,
        description="One process only; a restarted one finds its entries by it. The host's name",
    )
    max_concurrency: int = Field(
        default=2, ge=1, le=MOST_CONCURRENCY, description="Jobs at a time; changed at run time"
    )

    @property
    def reports_stream(self) -> str:
        """Where reports go."""
        return f"{self.redis_stream}{REPORTS_SUFFIX}"

    @property
    def delayed_key(self) -> str:
        """Sorted set of the entries that wait for their next attempt."""
        return f"{self.redis_stream}{DELAYED_SUFFIX}"

    @property
    def running_key(self) -> str:
        """Hash of the jobs that are worked on, each with its entry."""
        return f"{self.redis_stream}:running"

    @property
    def cancelled_key(self) -> str:
        """Hash of the jobs that are cancelled."""
        return f"{self.redis_stream}{CANCELLED_SUFFIX}"

    @property
    def paused_key(self) -> str:
        """Exists while the stream is paused."""
        return f"{self.redis_stream}{PAUSED_SUFFIX}"

    @property
    def settled_key(self) -> str:
        """Sorted set of the jobs that have ended, until what they left is removed."""
        return f"{self.redis_stream}{SETTLED_SUFFIX}"

    @property
    def purged_key(self) -> str:
        """Sorted set of the purged jobs of which nothing is left."""
        return f"{self.redis_stream}{PURGED_SUFFIX}"

    @property
    def suspects_key(self) -> str:
        """Set of the jobs whose entry a worker lost."""
        return f"{self.redis_stream}{SUSPECTS_SUFFIX}"

    @field_validator("consumer_name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == HANDED_BACK:
            raise ValueError(f"{HANDED_BACK!r} is where entries wait that were handed back")
        return name

    @field_validator("redis_group")
    @classmethod
    def _not_of_results(cls, group: str) -> str:
        if group == RESULTS_GROUP:
            raise ValueError(
                f"{RESULTS_GROUP!r} reads along for the results service: each would "
                "have half of the entries"
            )
        return group

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        keys = (
            *(self.redis_stream, self.redis_dlq_stream, self.reports_stream),
            *(self.delayed_key, self.running_key, self.cancelled_key),
            *(self.paused_key, self.settled_key, self.suspects_key, self.purged_key),
        )
        if len(set(keys)) < len(keys):
            raise ValueError("REDIS_STREAM, its companions and REDIS_DLQ_STREAM must differ")
        return self
