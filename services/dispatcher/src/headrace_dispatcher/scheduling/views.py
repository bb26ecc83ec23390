"""Schedules and their firings as clients see them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, JsonValue

from headrace_common.contracts.schedules import (
    FiringOrigin,
    FiringState,
    MisfirePolicy,
    OverlapPolicy,
)
from headrace_common.db import Firing, Schedule
from headrace_common.telemetry.secrets import deeply_without_url_values, without_url_values
from headrace_common.telemetry.trace import trace_id_of
from headrace_dispatcher.scheduling.timing import Occurrence
from headrace_dispatcher.scheduling.zones import is_zone


class ScheduleState(StrEnum):
    """Whether a schedule goes on firing."""

    ACTIVE = "active"
    PAUSED = "paused"
    FINISHED = "finished"

    @classmethod
    def of(cls, schedule: Schedule) -> "ScheduleState":
        """Return the state of a schedule."""
        if schedule.paused:
            return cls.PAUSED
        return cls.FINISHED if schedule.next_fire_at is None else cls.ACTIVE


class NextFiring(BaseModel):
    """A firing to come."""

    fire_at: datetime = Field(description="Nominal", examples=["2026-11-27T02:00:00Z"])
    local: str = Field(
        description="The same, in the schedule's time zone", examples=["2026-11-27T03:00:00+01:00"]
    )
    due_at: datetime | None = Field(
        description="When it is fired: later by the jitter. null of a mere preview, whose jitter "
        "is not known",
        examples=["2026-11-27T02:00:00Z"],
    )

    @classmethod
    def of(cls, occurrence: Occurrence, zone: ZoneInfo, *, stored: bool) -> Self:
        """Show one."""
        return cls(
            fire_at=occurrence.fire_at.astimezone(UTC),
            local=occurrence.fire_at.astimezone(zone).isoformat(),
            due_at=occurrence.due_at.astimezone(UTC) if stored else None,
        )


class FiringView(BaseModel):
    """A firing, and what came of it."""

    id: int = Field(examples=[4711])
    schedule: str = Field(description="Name", examples=["gate-3-by-day"])
    fire_at: datetime = Field(description="Nominal time; the moment of asking, of a manual one")
    due_at: datetime = Field(description="Later by the jitter")
    origin: FiringOrigin
    state: FiringState
    reason: str | None = Field(
        description="Why it was skipped, waits or failed", examples=["overlap"]
    )
    missed: int = Field(description="Earlier firings that it stands for, which nobody fired")
    target: str = Field(examples=["camera.preprocess"])
    target_key: str = Field(examples=["camera:gate-3"])
    params: dict[str, JsonValue]
    overlap: OverlapPolicy
    epoch: int = Field(description="Of the leader that recorded it")
    tries: int = Field(description="Times that its message was sent")
    message_id: str | None
    job_id: str | None = Field(description="Of the job that it began")
    job_run: int | None
    trace_id: str | None = Field(
        description="Of what it did; a later run of a job goes on in the trace of that job, which "
        "links to this one",
        examples=["4bf92f3577b34da6a3ce929d0e0e4736"],
    )
    result: dict[str, JsonValue] | None = Field(description="Of house-keeping: what it did")
    late_seconds: float = Field(description="From when it was due to when it was recorded")
    fired_at: datetime = Field(description="When it was recorded")
    sent_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, firing: Firing, schedule_name: str) -> Self:
        """Show a firing of a schedule."""
        names = cls.model_fields.keys() - {"schedule", "late_seconds", "trace_id"}
        return cls.model_validate(
            {
                **{name: getattr(firing, name) for name in names},
                "schedule": schedule_name,
                "trace_id": trace_id_of(firing.trace),
                "reason": without_url_values(firing.reason) if firing.reason else None,
                "result": deeply_without_url_values(firing.result) if firing.result else None,
                "late_seconds": round((firing.fired_at - firing.due_at).total_seconds(), 3),
            }
        )


class FiringPage(BaseModel):
    """Firings of a schedule, newest first."""

    firings: list[FiringView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


class ScheduleView(BaseModel):
    """A schedule."""

    name: str = Field(examples=["gate-3-by-day"])
    description: str | None
    state: ScheduleState = Field(description="`finished`: nothing is left to fire")
    trigger: dict[str, JsonValue] = Field(
        description="As it was given; a `delay` with the time `at` that it came to",
        examples=[{"type": "interval", "seconds": 600}],
    )
    time_zone: str = Field(examples=["Europe/Berlin"])
    start_at: datetime | None
    end_at: datetime | None
    jitter_seconds: float
    calendar: str | None
    target: str = Field(examples=["camera.preprocess"])
    target_key: str = Field(examples=["camera:gate-3"])
    params: dict[str, JsonValue] = Field(examples=[{"camera": "gate-3"}])
    misfire: MisfirePolicy
    misfire_grace_seconds: float
    misfire_limit: int
    overlap: OverlapPolicy
    paused: bool
    paused_reason: str | None
    built_in: bool
    version: int = Field(description="Counts changes")
    created_by: str = Field(description="Id of the API key")
    created_at: datetime
    changed_by: str
    changed_at: datetime
    last_fire_at: datetime | None = Field(description="Nominal time of the last firing")
    next_firings: list[NextFiring] = Field(description="None while it is paused")

    @classmethod
    def of(cls, schedule: Schedule, next_firings: Sequence[Occurrence], **more: Any) -> Self:
        """Show a schedule.

        Args:
            schedule: the row.
            next_firings: that are to come.
            more: of a subclass.
        """
        names = ScheduleView.model_fields.keys() - {"state", "next_firings"}
        zone = _zone(schedule)
        return cls.model_validate(
            {
                **{name: getattr(schedule, name) for name in names},
                "state": ScheduleState.of(schedule),
                "next_firings": [NextFiring.of(found, zone, stored=True) for found in next_firings],
                **more,
            }
        )


def _zone(schedule: Schedule) -> ZoneInfo:
    """Return the zone of a row; UTC where this machine does not know it, and another may."""
    return ZoneInfo(schedule.time_zone if is_zone(schedule.time_zone) else "UTC")


class ScheduleDetail(ScheduleView):
    """A schedule with what it did last."""

    last_firings: list[FiringView] = Field(description="Newest first")


class ScheduleList(BaseModel):
    """A page of schedules by their names."""

    schedules: list[ScheduleView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


class Preview(BaseModel):
    """When a schedule would fire."""

    time_zone: str = Field(examples=["Europe/Berlin"])
    next_firings: list[NextFiring] = Field(description="Empty where it would never fire again")
