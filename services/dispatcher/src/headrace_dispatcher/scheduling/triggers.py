"""The triggers of a schedule as the API takes them and its row keeps them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
)

from headrace_dispatcher.scheduling.cron import read_expression
from headrace_dispatcher.scheduling.times import FIRST_YEAR, LAST_YEAR

#: Longest delay and interval, in seconds: ten years.
LONGEST_SECONDS: Final = 10 * 365.25 * 86_400
#: Shortest interval, in seconds.
SHORTEST_SECONDS: Final = 1.0
#: Longest expression of cron, in characters.
_EXPRESSION_LENGTH: Final = 200


def _in_utc(instant: datetime) -> datetime:
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(f"must lie between the years {FIRST_YEAR} and {LAST_YEAR}")
    return instant.astimezone(UTC)


#: A time with an offset; kept as UTC.
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class _Trigger(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AtTrigger(_Trigger):
    """Once, at a time."""

    type: Literal["at"] = "at"
    at: Instant = Field(examples=["2026-12-24T18:00:00+01:00"])


class DelayTrigger(_Trigger):
    """Once, some time after the schedule was made."""

    type: Literal["delay"] = "delay"
    seconds: float = Field(ge=0, le=LONGEST_SECONDS, allow_inf_nan=False)
    at: Instant | None = Field(
        default=None, description="What that comes to; the service fills it in"
    )


class IntervalTrigger(_Trigger):
    """Again and again, after as much time as passed before: no clock change moves it."""

    type: Literal["interval"] = "interval"
    seconds: float = Field(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS, allow_inf_nan=False)
    anchor: Instant | None = Field(
        default=None,
        description="A firing, which the others are counted from. Unset: `start_at`, or when the "
        "schedule was made, in which case the first comes an interval later",
    )


class CronTrigger(_Trigger):
    """By the clock of the schedule's time zone."""

    type: Literal["cron"] = "cron"
    expression: str = Field(
        max_length=_EXPRESSION_LENGTH,
        description="Five fields (minute, hour, day of month, month, day of week), six with "
        "seconds before them, or @hourly, @daily, @midnight, @weekly, @monthly, @yearly, "
        "@annually",
        examples=["*/10 6-22 * * MON-FRI"],
    )

    @field_validator("expression")
    @classmethod
    def _is_cron(cls, expression: str) -> str:
        read_expression(expression)
        return expression


Trigger = Annotated[
    AtTrigger | DelayTrigger | IntervalTrigger | CronTrigger, Field(discriminator="type")
]
#: Reads what a row keeps.
TRIGGERS: Final[TypeAdapter[Trigger]] = TypeAdapter(Trigger)


def resolved(trigger: Trigger, now: datetime) -> Trigger:
    """Return what a row keeps: a delay says when it ends, counted from `now`, the database's."""
    if isinstance(trigger, DelayTrigger) and trigger.at is None:
        return trigger.model_copy(update={"at": now + timedelta(seconds=trigger.seconds)})
    return trigger
