"""Settings of the results service."""

from typing import Self

from pydantic import Field, SecretStr, TypeAdapter, field_validator, model_validator

from headrace_common.contracts.cctv import DEFAULT_CONTAINER, DEFAULT_GROUP
from headrace_common.settings import (
    SQS_MAX_WAIT_SECONDS,
    DatabaseSettings,
    HttpUrlText,
    JobStreamSettings,
    ProcessSettings,
    S3Settings,
    SqsSettings,
    TextList,
    WebhookSettings,
    split_words,
)


class ResultsSettings(
    ProcessSettings, DatabaseSettings, JobStreamSettings, S3Settings, SqsSettings, WebhookSettings
):
    """Everything that the results service reads from its environment."""

    database_pool_size: int = Field(
        default=20, ge=1, le=200, description="Workers, streams and requests share it"
    )

    results_worker_threads: int = Field(
        default=4, ge=1, le=64, description="Reports applied at a time"
    )
    inbox_retry_seconds: float = Field(
        default=10,
        gt=0,
        description="Age at which a report that is not applied is tried again; "
        "doubles with each attempt",
    )
    inbox_sweep_seconds: float = Field(
        default=5, gt=0, description="How often such reports are looked for"
    )
    inbox_max_attempts: int = Field(
        default=12, ge=1, le=20, description="After so many a report is set aside as poisoned"
    )

    shadow_relative_tolerance: float = Field(
        default=1e-6,
        ge=0,
        lt=1,
        description="Relative difference of two numbers that counts as none, where the answer to "
        "the copy of a job is held against the job's own",
    )
    shadow_absolute_tolerance: float = Field(
        default=1e-9, ge=0, description="The same of numbers near zero"
    )
    shadow_ignored_members: TextList = Field(
        default=(),
        description="Names of members of a result that differ from run to run, such as durations",
    )

    sqs_result_wait_seconds: int = Field(
        default=5,
        ge=0,
        le=SQS_MAX_WAIT_SECONDS,
        description="Long poll of the result queue; a stop waits for the one under way",
    )

    cctv_enabled: bool = Field(
        default=True, description="false: the streams of camera jobs are not read here"
    )
    redis_group: str = Field(
        default=DEFAULT_GROUP,
        min_length=1,
        description="Consumer group of the gpu-preprocessors; what it has done is no lost job",
    )
    cctv_claim_seconds: float = Field(
        default=30,
        ge=1,
        description="Stream entries that a replica holds for so long are given to others",
    )
    cctv_lost_after_seconds: float = Field(
        default=60,
        gt=0,
        description="A camera job of which nothing was heard for so long, and that is nowhere in "
        "Redis at two looks in a row, is put on the stream again",
    )
    cctv_unqueued_after_seconds: float = Field(
        default=30, gt=0, description="The same for a job that was accepted while Redis was away"
    )
    cctv_remains_after_seconds: float = Field(
        default=600,
        gt=0,
        description="So long after the end of a camera job whatever it left in Swift beside its "
        "result is removed; longer than a request to Swift may hang",
    )
    cctv_max_requeues: int = Field(
        default=20, ge=0, le=1_000, description="After so many a lost job has failed: `entry_lost`"
    )

    sse_max_clients: int = Field(default=1_000, ge=1, description="Open streams of one process")
    sse_max_seconds: float = Field(
        default=600, gt=0, description="A stream ends after so long, and the client resumes it"
    )
    sse_queue_events: int = Field(
        default=100,
        ge=1,
        description="Events kept for a client that reads slowly, before it is "
        "served from the database",
    )
    sse_poll_seconds: float = Field(
        default=2, gt=0, description="How often the database is asked for news without Redis"
    )
    sse_safety_poll_seconds: float = Field(
        default=5, gt=0, description="The same with Redis, in case that it loses an event"
    )
    sse_database_threads: int = Field(
        default=4, ge=1, le=64, description="Database calls of all streams at a time"
    )

    artifact_url_seconds: int = Field(
        default=300, ge=1, le=604_800, description="How long the URL of an artefact is good for"
    )

    swift_temp_url_key: SecretStr | None = Field(
        default=None,
        description="Temp-URL-Key of the Swift account or container; signs links to the artefacts "
        "of camera jobs. Unset: there are none",
    )
    swift_storage_urls: TextList = Field(
        default=(),
        description="Where links may lead: Swift accounts (https://host/v1/AUTH_project), or whole "
        "servers (https://host)",
    )
    swift_container: str = Field(
        default=DEFAULT_CONTAINER, min_length=1, max_length=256, description="The one they may name"
    )
    swift_public_url: HttpUrlText | None = Field(
        default=None, description="Scheme and host of Swift as clients reach it, where they differ"
    )

    _split_storage_urls = field_validator(
        "swift_storage_urls", "shadow_ignored_members", mode="before"
    )(split_words)

    @field_validator("swift_storage_urls")
    @classmethod
    def _storage_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(TypeAdapter(HttpUrlText).validate_python(url) for url in urls)

    @model_validator(mode="after")
    def _links_lead_somewhere(self) -> Self:
        if self.swift_temp_url_key is not None and not self.swift_storage_urls:
            raise ValueError("SWIFT_TEMP_URL_KEY is set, so SWIFT_STORAGE_URLS must be")
        return self

    @model_validator(mode="after")
    def _somebody_may_report(self) -> Self:
        if not self.webhook_secrets and not self.callback_token_secrets:
            raise ValueError(
                "set WEBHOOK_SECRETS or CALLBACK_TOKEN_SECRETS: without either every "
                "webhook would be refused"
            )
        return self

    @model_validator(mode="after")
    def _connections_suffice(self) -> Self:
        # Besides them the sweep, the result queue and at least one request need a connection;
        # the readers of the two streams one each, and house-keeping two.
        needed = self.results_worker_threads + self.sse_database_threads + 2
        needed += 4 if self.cctv_enabled else 0
        if self.database_pool_size <= needed:
            raise ValueError(
                f"DATABASE_POOL_SIZE must be above {needed}: RESULTS_WORKER_THREADS, "
                "SSE_DATABASE_THREADS and two more (six with CCTV_ENABLED) need a connection each"
            )
        return self
