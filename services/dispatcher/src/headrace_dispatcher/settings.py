"""The dispatcher's settings."""

from typing import Self

from pydantic import Field, model_validator

from headrace_common.settings import (
    CircuitSettings,
    DatabaseSettings,
    HttpUrlText,
    ProcessSettings,
    WebhookSettings,
)
from headrace_dispatcher.chores.settings import HouseKeepingSettings
from headrace_dispatcher.dead.settings import DeadLetterSettings
from headrace_dispatcher.scheduling.settings import SchedulerSettings


class DispatcherSettings(
    ProcessSettings,
    DatabaseSettings,
    DeadLetterSettings,
    HouseKeepingSettings,
    SchedulerSettings,
    WebhookSettings,
    CircuitSettings,
):
    """Everything that the dispatcher can be told by environment."""

    analysis_server_url: HttpUrlText | None = Field(
        default=None, description="Where the HTTP transport posts jobs, when SQS is not used"
    )
    analysis_server_timeout_seconds: float = Field(default=30, gt=0, le=300)
    dispatcher_threads: int = Field(
        default=32, ge=1, le=256, description="Jobs in hand at once; at least one batch of ten"
    )
    batch_linger_seconds: float = Field(
        default=0.005, ge=0, le=1, description="Longest that a job waits for company in its batch"
    )
    batch_senders: int = Field(default=4, ge=1, le=32, description="Batches on their way at once")
    job_max_retries: int = Field(
        default=3, ge=0, le=20, description="Times that a stage of a job is tried again (A4)"
    )
    job_max_deliveries: int = Field(
        default=10,
        ge=1,
        le=1_000,
        description="Dispatchers that may die while they have a job in hand, before it is poison",
    )
    dispatch_patience_seconds: float = Field(
        default=24 * 3600,
        gt=0,
        description="A job that waited so long for a server at fault, and is refused with an error "
        "that may be its own, counts its tries from then on",
    )
    job_stage_timeout_seconds: float = Field(
        default=900, gt=0, description="Longest that a job runs in a stage (A4)"
    )
    upload_timeout_seconds: float = Field(
        default=6 * 3600, gt=0, description="An upload without end after so long is abandoned"
    )
    analysis_deadline_seconds: float = Field(
        default=6 * 3600,
        gt=0,
        description="Longest silence of an analysis server that has not begun with a job: the "
        "job may wait in SQS. Once it reported progress, JOB_STAGE_TIMEOUT_SECONDS counts",
    )
    retry_base_seconds: float = Field(
        default=10, gt=0, description="First delay of a retry; each further one is four times it"
    )
    retry_poll_seconds: float = Field(
        default=0.5, gt=0, le=60, description="How often jobs are looked for whose wait is over"
    )
    lost_after_seconds: float = Field(
        default=30, gt=0, description="A message is looked for once its job has waited so long"
    )

    @model_validator(mode="after")
    def _has_a_way_out(self) -> Self:
        if not self.use_sqs_queue and self.analysis_server_url is None:
            raise ValueError("set USE_SQS_QUEUE=true, or ANALYSIS_SERVER_URL for the HTTP way")
        if not self.callback_token_secrets and not self.webhook_secrets:
            raise ValueError("set WEBHOOK_SECRETS or CALLBACK_TOKEN_SECRETS: answers need one")
        return self
