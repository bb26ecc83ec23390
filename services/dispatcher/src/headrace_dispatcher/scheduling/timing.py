"""When a schedule fires: its trigger within its start and end, off its calendar's exceptions."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from headrace_common.db.models import Calendar, Schedule
from headrace_dispatcher.scheduling.times import TICK, Every, Once, Times, steps_of
from headrace_dispatcher.scheduling.triggers import (
    TRIGGERS,
    AtTrigger,
    DelayTrigger,
    IntervalTrigger,
    Trigger,
)


@dataclass(frozen=True)
class Occurrence:
    """One time that a schedule fires.

    Attributes:
        fire_at: the nominal time, by which a firing is known.
        due_at: when it is to be put on its way: later by the jitter.
    """

    fire_at: datetime
    due_at: datetime


@dataclass(frozen=True)
class Missed:
    """What lay in a span of time: the latest, oldest first, and how many there were in all."""

    latest: tuple[Occurrence, ...]
    count: int


@dataclass(frozen=True)
class Timing:
    """All that decides when a schedule fires.

    Attributes:
        times: of its trigger.
        key: id of the schedule; jitter differs between schedules by it.
        start_at: nothing is earlier.
        end_at: nothing is later.
        jitter: most that a firing is put off by.
    """

    times: Times
    key: str
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: timedelta = timedelta(0)

    def next_after(self, instant: datetime) -> Occurrence | None:
        """Return the first that is nominally later than `instant`; None: nothing is left."""
        instant = instant.astimezone(UTC)
        if self.start_at is not None:
            instant = max(instant, self.start_at - TICK)
        found = self.times.after(instant)
        if found is None or (self.end_at is not None and found > self.end_at):
            return None
        return self._occurrence(found)

    def between(self, after: datetime, until: datetime, *, latest: int) -> Missed:
        """Return the latest so many of those in (`after`, `until`], and count them all."""
        low, high = after.astimezone(UTC), until.astimezone(UTC)
        if self.start_at is not None:
            low = max(low, self.start_at - TICK)
        if self.end_at is not None:
            high = min(high, self.end_at)
        found = list(islice(self._backwards(low, high), latest))
        return Missed(
            tuple(self._occurrence(instant) for instant in reversed(found)),
            self.times.count(low, high),
        )

    def preview(self, after: datetime, count: int) -> list[Occurrence]:
        """Return the next so many, fewer if there are fewer."""
        return list(islice(self.following(after), count))

    def following(self, after: datetime) -> Iterator[Occurrence]:
        """Yield all that are later than `after`, in their order."""
        occurrence = self.next_after(after)
        while occurrence is not None:
            yield occurrence
            occurrence = self.next_after(occurrence.fire_at)

    def _backwards(self, low: datetime, high: datetime) -> Iterator[datetime]:
        found = self.times.until(high)
        while found is not None and found > low:
            yield found
            found = self.times.until(found - TICK)

    def _occurrence(self, fire_at: datetime) -> Occurrence:
        return Occurrence(fire_at, fire_at)


def timing_of(schedule: Schedule, calendar: Calendar | None) -> Timing:
    """Return the timing of a row; `calendar` is the one that it names.

    Raises:
        pydantic.ValidationError: its trigger is none.
    """
    return make_timing(
        TRIGGERS.validate_python(schedule.trigger),
        key=schedule.id,
        made_at=schedule.created_at,
        time_zone=schedule.time_zone,
        start_at=schedule.start_at,
        end_at=schedule.end_at,
        jitter_seconds=schedule.jitter_seconds,
        exceptions=calendar.exceptions if calendar is not None else (),
    )


def make_timing(
    trigger: Trigger,
    *,
    key: str,
    made_at: datetime,
    time_zone: str = "UTC",
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    jitter_seconds: float = 0,
    exceptions: object = (),  # noqa: ARG001 - the next commit reads it
) -> Timing:
    """Return the timing of a schedule that was made at `made_at`, by the database's clock."""
    return Timing(
        times=_times(trigger, made_at.astimezone(UTC), start_at, ZoneInfo(time_zone)),
        key=key,
        start_at=start_at.astimezone(UTC) if start_at is not None else None,
        end_at=end_at.astimezone(UTC) if end_at is not None else None,
        jitter=steps_of(jitter_seconds),
    )


def _times(trigger: Trigger, made_at: datetime, start_at: datetime | None, zone: ZoneInfo) -> Times:
    if isinstance(trigger, AtTrigger):
        return Once(trigger.at)
    if isinstance(trigger, DelayTrigger):
        return Once(trigger.at or made_at + steps_of(trigger.seconds))
    if isinstance(trigger, IntervalTrigger):
        anchor = trigger.anchor or (start_at.astimezone(UTC) if start_at is not None else made_at)
        return Every(anchor, steps_of(trigger.seconds))
    raise NotImplementedError(zone)
