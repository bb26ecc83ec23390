"""Settings of the dead letters."""

from pydantic import Field

from headrace_common.settings import JobStreamSettings, SqsSettings


def _dlq_of(data: dict[str, str]) -> str:
    return f"{data['redis_stream']}:dlq"


class DeadLetterSettings(JobStreamSettings, SqsSettings):
    """Where letters are looked for, how often, and how long those that are settled are kept."""

    redis_dlq_stream: str = Field(
        default_factory=_dlq_of,
        description="Dead letters of the stream; REDIS_STREAM plus `:dlq` unless given",
    )
    dead_letter_interval_seconds: float = Field(
        default=10,
        gt=0,
        le=3_600,
        description="How often every replica looks for dead letters in the queues, the streams "
        "and the inbox",
    )
    dead_letter_retention_days: float = Field(
        default=30,
        gt=0,
        description="How long a letter is kept that was replayed or dropped; a dead one is kept "
        "until somebody decides",
    )
