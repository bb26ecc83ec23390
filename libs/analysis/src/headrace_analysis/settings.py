"""How an analysis server takes jobs and answers them; every name is an environment variable."""

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from headrace_common import webhooks
from headrace_common.settings import (
    SQS_MAX_VISIBILITY_SECONDS,
    SQS_MAX_WAIT_SECONDS,
    CircuitSettings,
    SecretList,
    SqsSettings,
    TextList,
)
from headrace_common.sqs import MAX_RECEIVES


class AnalysisSettings(SqsSettings, CircuitSettings):
    """Settings of an analysis server. Without SQS_QUEUE_URL it takes jobs over HTTP only."""

    analysis_concurrency: int = Field(default=2, ge=1, le=64, description="Tasks at a time")
    analysis_metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65_535,
        description="Port on which a plain worker (`AnalysisServer.run()`) answers `GET /metrics`; "
        "a server with an HTTP side of its own has it there",
    )
    analysis_visibility_timeout_seconds: int = Field(
        default=120,
        ge=3,
        le=SQS_MAX_VISIBILITY_SECONDS,
        description="A message whose server died comes back after this; renewed every third of it",
    )
    analysis_max_receives: int = Field(
        default=MAX_RECEIVES,
        ge=1,
        le=1_000,
        description="Attempts at a task; at most maxReceiveCount of the queue's redrive policy",
    )
    analysis_time_limit_seconds: float = Field(default=900, gt=0, description="Of one attempt")
    analysis_wait_seconds: int = Field(
        default=SQS_MAX_WAIT_SECONDS,
        ge=1,
        le=SQS_MAX_WAIT_SECONDS,
        description="Long poll of a single queue; a stop may take as long",
    )
    analysis_lane_wait_seconds: int = Field(
        default=1,
        ge=1,
        le=SQS_MAX_WAIT_SECONDS,
        description="Poll of each lane's queue in turn while all are empty",
    )
    analysis_retry_base_seconds: float = Field(
        default=10, gt=0, description="Wait before the second attempt; doubles, with jitter"
    )
    analysis_retry_max_seconds: float = Field(default=600, gt=0, le=SQS_MAX_VISIBILITY_SECONDS)
    analysis_http_queue_size: int = Field(
        default=16, ge=0, le=10_000, description="Jobs over HTTP that may wait for a free slot"
    )
    answer_via: Literal["webhook", "queue"] = Field(
        default="webhook", description="webhook: POST to callback_url; queue: SQS_RESULT_QUEUE_URL"
    )
    callback_allowed_hosts: TextList = Field(
        default=(),
        description="host (any port) or host:port of every callback_url that may be called",
    )
    webhook_secrets: SecretList = Field(
        default=(),
        description="Standard Webhooks secrets: every one signs what we send, any may have "
        "signed what we get. Without them nothing is signed and the token in the URL counts",
    )
    analysis_allow_unsigned: bool = Field(
        default=False,
        description="Without WEBHOOK_SECRETS: take jobs over HTTP from whoever reaches us",
    )
    report_timeout_seconds: float = Field(default=10, gt=0, le=60, description="Of one request")
    report_retry_seconds: float = Field(
        default=300, gt=0, description="How long a final report is tried before the task is left"
    )
    report_max_bytes: int = Field(
        default=200_000, ge=2_000, description="Larger results go to the result store, and a link"
    )
    progress_interval_seconds: float = Field(
        default=1, ge=0, description="Least time between two progress reports of a task"
    )
    analysis_dependency_retry_seconds: float = Field(
        default=60,
        gt=0,
        description="How long a task waits for what it needs, S3 for instance, before the attempt "
        "counts as failed",
    )
    analysis_heartbeat_seconds: float = Field(
        default=15,
        ge=0,
        description="A task that reported nothing for so long shows a sign of life, whose answer "
        "says whether the job is still wanted; 0: never. Not over the result queue",
    )
    shutdown_grace_seconds: float = Field(
        default=30, gt=0, description="Time that tasks under way get to finish at a stop"
    )

    @field_validator("callback_allowed_hosts", "webhook_secrets", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("webhook_secrets")
    @classmethod
    def _usable(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            webhooks.check_secret(secret.get_secret_value())
        return secrets

    @model_validator(mode="after")
    def _can_answer(self) -> Self:
        if self.answer_via == "webhook" and not self.callback_allowed_hosts:
            raise ValueError("ANSWER_VIA is webhook, so CALLBACK_ALLOWED_HOSTS must be set")
        if self.answer_via == "queue" and self.sqs_result_queue_url is None:
            raise ValueError("ANSWER_VIA is queue, so SQS_RESULT_QUEUE_URL must be set")
        if self.report_max_bytes > self.sqs_max_message_bytes and self.answer_via == "queue":
            raise ValueError("REPORT_MAX_BYTES is above SQS_MAX_MESSAGE_BYTES")
        return self

    def webhook_secret_texts(self) -> list[str]:
        """Return the secrets themselves, for signing and verifying."""
        return [secret.get_secret_value() for secret in self.webhook_secrets]
