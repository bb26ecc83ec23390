"""Settings by environment variable, in groups that each service combines as it needs.

A name that stands in the requirements keeps it to the letter. Durations are seconds.
Impossible settings stop a process at boot, with every fault named.
"""

from datetime import timedelta
from typing import Annotated, Final, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from headrace_common import webhooks
from headrace_common.circuit import CircuitPolicy
from headrace_common.contracts.cctv import DEFAULT_STREAM

#: Smallest part that S3 takes but for the last: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
S3_MIN_PART_BYTES: Final = 5 * 1024 * 1024
#: SQS refuses a longer wait.
SQS_MAX_WAIT_SECONDS: Final = 20
#: SQS refuses a longer visibility timeout: 12 hours.
SQS_MAX_VISIBILITY_SECONDS: Final = 43_200


class BadSettingsError(SystemExit):
    """The environment cannot work; the message names each variable and its fault."""


def split_words(value: object) -> object:
    """Read a list from one variable (a validator): words between commas or white space."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    return value.rstrip("/")


HttpUrlText = Annotated[str, AfterValidator(_http_url)]
SecretList = Annotated[tuple[SecretStr, ...], NoDecode]
TextList = Annotated[tuple[str, ...], NoDecode]


class SettingsGroup(BaseSettings):
    """Base of all groups: plain environment names, empty means unset."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            BadSettingsError: with one readable line for each variable at fault.
        """
        try:
            return cls()
        except ValidationError as error:
            faults = [
                f"  {str(fault['loc'][0]).upper() if fault['loc'] else 'settings'}: {fault['msg']}"
                for fault in error.errors(include_input=False, include_url=False)
            ]
            raise BadSettingsError("bad settings:\n" + "\n".join(faults)) from None


class ProcessSettings(SettingsGroup):
    """How a process logs and listens."""

    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: str = Field(
        default="auto",
        pattern="^(auto|json|console)$",
        description="auto: readable on a terminal, JSON elsewhere",
    )
    shutdown_grace_seconds: float = Field(
        default=30, gt=0, description="Time that work under way gets to finish at a stop"
    )
    drain_seconds: float = Field(
        default=0,
        ge=0,
        le=600,
        description="Before that, at most: requests are served on, each answer asks its client to "
        "connect anew (elsewhere), and connections that nobody uses are left open. Ends with the "
        "last connection. Above the time for which clients keep idle ones; 0 where there is no "
        "other replica",
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        le=3_600,
        description="An idle connection is closed after that. Above what clients and proxies in "
        "front keep theirs for (nginx and AWS' load balancers 60), or they use it just then",
    )
    build_revision: str = Field(
        default="unknown",
        pattern=r"^[\w.-]{1,64}$",
        description="Commit that the image was built from, for the metric `headrace_build_info`",
    )
    cors_allow_origins: TextList = Field(
        default=(), description="Origins whose pages may call the API; none by default"
    )
    legacy_open_endpoints: bool = Field(
        default=False,
        description="Opens the endpoints of the old back end without a key, "
        "for a trusted network during a migration",
    )

    _split_origins = field_validator("cors_allow_origins", mode="before")(split_words)


class DatabaseSettings(SettingsGroup):
    """Postgres, the system of record."""

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database")
    database_pool_size: int = Field(default=10, ge=1, le=200)
    database_connect_timeout_seconds: int = Field(default=3, ge=1, le=60)
    database_statement_timeout_seconds: float = Field(default=15, gt=0, le=600)
    database_idle_transaction_timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=600,
        description="A transaction that its process leaves idle for so long is ended: a frozen "
        "process must not hold what others need",
    )
    job_retention_days: float = Field(
        default=30, gt=0, description="How long a finished job is kept"
    )

    @property
    def job_retention(self) -> timedelta:
        """How long a finished job is kept."""
        return timedelta(days=self.job_retention_days)

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr) -> SecretStr:
        scheme, separator, rest = value.get_secret_value().partition("://")
        if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not separator:
            raise ValueError("must start with postgresql://")
        return SecretStr(f"postgresql+psycopg://{rest}")


class RedisSettings(SettingsGroup):
    """Redis or Valkey, the transport."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    redis_password: SecretStr | None = None
    dramatiq_namespace: str = Field(
        default="dramatiq", pattern=r"^[\w.-]+$", description="Prefix of every key of Dramatiq"
    )
    dramatiq_heartbeat_timeout_seconds: float = Field(
        default=60,
        ge=1,
        description="A worker silent for so long is taken for dead and its messages are given to "
        "others. Its heartbeat is a side effect of fetching, so this must outlast any pause",
    )

    def redis_url_with_password(self) -> str:
        """Return the URL to connect to, REDIS_PASSWORD included where the URL has none."""
        url = self.redis_url.get_secret_value()
        parts = urlsplit(url)
        if self.redis_password is None or parts.password:
            return url
        user = parts.username or ""
        password = quote(self.redis_password.get_secret_value(), safe="")
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc.split('@')[-1]}"))


class JobStreamSettings(RedisSettings):
    """The stream of camera jobs; its companions are named after it."""

    redis_stream: str = Field(
        default=DEFAULT_STREAM, min_length=1, max_length=200, description="Stream of camera jobs"
    )


class CircuitSettings(SettingsGroup):
    """When work waits because a server outside is at fault, see `headrace_common.circuit`."""

    circuit_failures: int = Field(
        default=8,
        ge=1,
        le=1_000,
        description="Failed calls in a row after which a dependency counts as being at fault",
    )
    circuit_first_pause_seconds: float = Field(
        default=1, gt=0, le=300, description="Until one call tries again; doubles each time"
    )
    circuit_max_pause_seconds: float = Field(default=30, gt=0, le=3_600)

    @property
    def circuit_policy(self) -> CircuitPolicy:
        """The same as one value."""
        return CircuitPolicy(
            failures=self.circuit_failures,
            first_seconds=self.circuit_first_pause_seconds,
            most_seconds=self.circuit_max_pause_seconds,
        )


class AwsSettings(SettingsGroup):
    """Credentials and region; unset on AWS itself, where boto3 finds its role (IRSA)."""

    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str = Field(
        default="us-east-1", validation_alias=AliasChoices("aws_region", "aws_default_region")
    )
    aws_max_connections: int = Field(default=50, ge=1, le=500)


class S3Settings(AwsSettings):
    """Where recordings, references and results are kept."""

    s3_endpoint_url: HttpUrlText | None = Field(
        default=None, description="Unset for AWS; else an S3-compatible server"
    )
    s3_bucket: str = Field(default="headrace-media", min_length=3, max_length=63)
    s3_allowed_buckets: TextList = Field(
        default=(), description="Further buckets that s3:// URLs from outside may name"
    )
    s3_public_endpoint_url: HttpUrlText | None = Field(
        default=None, description="S3_ENDPOINT_URL as clients reach it, where that differs"
    )
    s3_connect_timeout_seconds: float = Field(default=5, gt=0)
    s3_read_timeout_seconds: float = Field(default=30, gt=0)

    _split_buckets = field_validator("s3_allowed_buckets", mode="before")(split_words)


class SqsSettings(AwsSettings):
    """The bridge to the analysis servers."""

    sqs_endpoint_url: HttpUrlText | None = Field(
        default=None, description="Unset for AWS; else an SQS-compatible server"
    )
    use_sqs_queue: bool = Field(
        default=False,
        validation_alias=AliasChoices("use_sqs_queue", "use_queue_system"),
        description="true: send jobs over SQS; false: POST them to ANALYSIS_SERVER_URL",
    )
    sqs_queue_url: HttpUrlText | None = Field(
        default=None, description="audio-analysis-queue: every lane, or those without their own"
    )
    sqs_queue_url_high: HttpUrlText | None = None
    sqs_queue_url_low: HttpUrlText | None = None
    sqs_result_queue_url: HttpUrlText | None = None
    sqs_max_message_bytes: int = Field(
        default=262_144,
        ge=1_024,
        le=1_048_576,
        description="SQS takes 1 MiB since 2025; emulators and older consumers 256 KiB",
    )

    @model_validator(mode="after")
    def _sqs_has_a_queue(self) -> Self:
        if self.use_sqs_queue and self.sqs_queue_url is None:
            raise ValueError("USE_SQS_QUEUE is true, so SQS_QUEUE_URL must be set")
        return self


class WebhookSettings(SettingsGroup):
    """Where answers come in, and who may send them."""

    webhook_url: HttpUrlText = Field(description="Public URL of the results service's webhook")
    webhook_secrets: SecretList = Field(
        default=(),
        description="Standard Webhooks secrets (whsec_...); each signs, and each verifies",
    )
    callback_token_secrets: SecretList = Field(
        default=(),
        description="Keys of the per-job tokens in callback URLs; the first makes, all verify",
    )

    _split_secrets = field_validator("webhook_secrets", "callback_token_secrets", mode="before")(
        split_words
    )

    @field_validator("webhook_secrets")
    @classmethod
    def _usable(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            webhooks.check_secret(secret.get_secret_value())
        return secrets

    @field_validator("callback_token_secrets")
    @classmethod
    def _long_enough(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(secret.get_secret_value()) < 32 for secret in secrets):
            raise ValueError("each secret needs at least 32 characters")
        return secrets

    def webhook_secret_texts(self) -> list[str]:
        """Return the secrets themselves, for signing and verifying."""
        return [secret.get_secret_value() for secret in self.webhook_secrets]

    def callback_token_secret_texts(self) -> list[str]:
        """Return the keys themselves."""
        return [secret.get_secret_value() for secret in self.callback_token_secrets]
