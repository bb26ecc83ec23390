"""Settings of the results service."""

from typing import Self

from pydantic import Field, model_validator

from headrace_common.settings import (
    SQS_MAX_WAIT_SECONDS,
    DatabaseSettings,
    HttpUrlText,
    ProcessSettings,
    RedisSettings,
    S3Settings,
    SqsSettings,
    WebhookSettings,
)


class ResultsSettings(
    ProcessSettings, DatabaseSettings, RedisSettings, S3Settings, SqsSettings, WebhookSettings
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

    sqs_result_wait_seconds: int = Field(
        default=5,
        ge=0,
        le=SQS_MAX_WAIT_SECONDS,
        description="Long poll of the result queue; a stop waits for the one under way",
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
    s3_public_endpoint_url: HttpUrlText | None = Field(
        default=None, description="S3_ENDPOINT_URL as clients reach it, where that differs"
    )

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
        # Besides them the sweep, the result queue and at least one request need a connection.
        needed = self.results_worker_threads + self.sse_database_threads + 2
        if self.database_pool_size <= needed:
            raise ValueError(
                f"DATABASE_POOL_SIZE must be above {needed}: RESULTS_WORKER_THREADS, "
                "SSE_DATABASE_THREADS and two more need a connection each"
            )
        return self
