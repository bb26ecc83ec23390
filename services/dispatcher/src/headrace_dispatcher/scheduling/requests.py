"""What clients say of schedules."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from headrace_common.contracts.schedules import MisfirePolicy, OverlapPolicy
from headrace_common.db import is_storable
from headrace_dispatcher.scheduling.triggers import Instant, Trigger
from headrace_dispatcher.scheduling.zones import ZoneName

#: What can follow an instant before its firing is late for good; a day of seconds is enough.
MAX_GRACE_SECONDS: Final = 86_400
#: Longest that a firing is put off to spread the load.
MAX_JITTER_SECONDS: Final = 86_400
#: Most that one schedule makes up for.
MAX_MISFIRE_LIMIT: Final = 1_000
#: Most firings that a preview tells.
MAX_PREVIEW: Final = 100
#: Names are used in paths, and sorted.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _storable(value: str) -> str:
    if not is_storable(value):
        raise ValueError("must not have NUL or halves of surrogate pairs")
    return value


Name = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        description="1 to 128 of `A-Z a-z 0-9 . _ -`, the first a letter or digit",
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_storable)]
Jitter = Annotated[
    float,
    Field(
        ge=0,
        le=MAX_JITTER_SECONDS,
        allow_inf_nan=False,
        description="Each firing is put off by up to so much, always the same for one firing",
    ),
]
Grace = Annotated[
    float,
    Field(ge=1, le=MAX_GRACE_SECONDS, allow_inf_nan=False, description="What is later was missed"),
]
MisfireLimit = Annotated[
    int,
    Field(ge=1, le=MAX_MISFIRE_LIMIT, description="Most that `all` makes up for, the latest"),
]
#: What is said against a schedule that makes up for each firing, and skips all but one of them.
OVERLAP_FAULT: Final = (
    "must not be 'skip' where misfire is 'all': of what is made up for at once, all but the first "
    "would be skipped; say 'allow', and limit the target to have one run at a time"
)
_Model: Final = ConfigDict(extra="forbid")
_EXAMPLE: Final[dict[str, JsonValue]] = {
    "trigger": {"type": "cron", "expression": "*/10 6-22 * * MON-FRI"},
    "time_zone": "Europe/Berlin",
    "jitter_seconds": 30,
    "target": "camera.preprocess",
    "params": {"camera": "gate-3"},
    "misfire": "skip",
}


def contradict(misfire: MisfirePolicy | str, overlap: OverlapPolicy | str) -> bool:
    """Whether one policy would skip what the other makes up for."""
    return misfire == MisfirePolicy.ALL and overlap == OverlapPolicy.SKIP


class TimingBody(BaseModel):
    """When to fire."""

    model_config = _Model

    trigger: Trigger
    time_zone: ZoneName = "UTC"
    start_at: Instant | None = Field(default=None, description="Nothing is fired earlier")
    end_at: Instant | None = Field(default=None, description="Nothing is fired later")
    calendar: Name | None = Field(default=None, description="Nothing is fired on its days")

    @field_validator("end_at")
    @classmethod
    def _is_after_start(cls, end_at: datetime | None, info: ValidationInfo) -> datetime | None:
        start_at = info.data.get("start_at")
        if end_at is not None and start_at is not None and end_at <= start_at:
            raise ValueError("must be later than start_at")
        return end_at


class ScheduleBody(TimingBody):
    """What a schedule says, but for its name."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [dict(_EXAMPLE)]})

    description: Text | None = None
    jitter_seconds: Jitter = 0
    target: Text = Field(
        description="One of those that `GET /targets` lists", examples=["camera.preprocess"]
    )
    params: dict[str, JsonValue] = Field(
        default={}, description="What the target needs to know", examples=[{"camera": "gate-3"}]
    )
    misfire: MisfirePolicy = MisfirePolicy.ONCE
    misfire_grace_seconds: Grace = 60
    misfire_limit: MisfireLimit = 100
    overlap: OverlapPolicy = Field(
        default=OverlapPolicy.SKIP,
        description="Left out: `allow` where `misfire` is `all`, else `skip`",
    )
    paused: bool | None = Field(
        default=None,
        description="Left out: a new one is not; one that is replaced stays as it is",
    )

    @model_validator(mode="before")
    @classmethod
    def _allow_what_is_made_up_for(cls, said: Any) -> Any:
        if isinstance(said, dict) and said.get("misfire") == MisfirePolicy.ALL:
            return {"overlap": OverlapPolicy.ALLOW} | said
        return said

    @field_validator("overlap")
    @classmethod
    def _goes_with_misfire(cls, overlap: OverlapPolicy, info: ValidationInfo) -> OverlapPolicy:
        if contradict(info.data.get("misfire", MisfirePolicy.ONCE), overlap):
            raise ValueError(OVERLAP_FAULT)
        return overlap


class NewSchedule(ScheduleBody):
    """A schedule to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "gate-3-by-day", **_EXAMPLE}]},
    )

    name: Name = Field(examples=["gate-3-by-day"])


class ScheduleChange(BaseModel):
    """What changes of a schedule: what is left out stays, what is null goes.

    `trigger` and `params` are replaced as a whole.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"trigger": {"type": "interval", "seconds": 300}, "version": 3}]
        },
    )

    description: Text | None = None
    trigger: Trigger | None = None
    time_zone: ZoneName | None = None
    start_at: Instant | None = None
    end_at: Instant | None = None
    jitter_seconds: Jitter | None = None
    calendar: Name | None = None
    target: Text | None = None
    params: dict[str, JsonValue] | None = None
    misfire: MisfirePolicy | None = None
    misfire_grace_seconds: Grace | None = None
    misfire_limit: MisfireLimit | None = None
    overlap: OverlapPolicy | None = None
    version: int | None = Field(
        default=None, description="That was seen; 409 where somebody else was quicker"
    )

    @field_validator(
        "trigger",
        "time_zone",
        "jitter_seconds",
        "target",
        "params",
        "misfire",
        "misfire_grace_seconds",
        "misfire_limit",
        "overlap",
    )
    @classmethod
    def _has_value(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("must not be null; left out, it stays as it is")
        return value

    def said(self) -> dict[str, Any]:
        """Return what was said, by the names of columns; the trigger is still a model."""
        names = self.model_fields_set - {"version"}
        return {name: getattr(self, name) for name in names}


class PreviewWish(TimingBody):
    """A timing that is looked at, not kept."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "trigger": {"type": "cron", "expression": "30 2 * * *"},
                    "time_zone": "Europe/Berlin",
                    "count": 5,
                }
            ]
        },
    )

    after: Instant | None = Field(default=None, description="Begin there; now if left out")
    count: int = Field(default=10, ge=1, le=MAX_PREVIEW)


class PauseWish(BaseModel):
    """Why a schedule is paused."""

    model_config = _Model

    reason: Text | None = None
