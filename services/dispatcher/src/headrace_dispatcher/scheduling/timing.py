"""When a schedule fires: its trigger within its start and end, off its calendar's exceptions."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any, Final, overload
from zoneinfo import ZoneInfo

from headrace_common.db.models import Calendar, Schedule
from headrace_dispatcher.scheduling.calendar_days import NO_EXCEPTIONS, ExceptionDays
from headrace_dispatcher.scheduling.clock_times import ClockTimes
from headrace_dispatcher.scheduling.cron import read_expression
from headrace_dispatcher.scheduling.times import TICK, Every, Once, Times, ticks_of
from headrace_dispatcher.scheduling.triggers import (
    TRIGGERS,
    AtTrigger,
    DelayTrigger,
    IntervalTrigger,
    Trigger,
)

_DAY: Final = timedelta(days=1)
#: Calendars that are remembered as they were read.
_REMEMBERED: Final = 64
#: Longest that a calendar may leave nothing before that counts as for ever, in years.
_YEARS: Final = 50


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
        key: id of the schedule; the jitter of its firings follows from it.
        start_at: nothing is earlier.
        end_at: nothing is later.
        jitter: most that a firing is put off by.
        zone: name of the time zone, which says what date it is.
        exceptions: days on which nothing fires.
    """

    times: Times
    key: str
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: timedelta = timedelta(0)
    zone: str = "UTC"
    exceptions: ExceptionDays = NO_EXCEPTIONS

    def next_after(self, instant: datetime) -> Occurrence | None:
        """Return the first that is nominally later than `instant`; None: nothing is left."""
        low, high = self._bounds(instant, None)
        found = self._next(low)
        if found is None or (high is not None and found > high):
            return None
        return self._occurrence(found)

    def between(self, after: datetime, until: datetime, *, latest: int) -> Missed:
        """Return the latest so many of those in (`after`, `until`], and count them all."""
        low, high = self._bounds(after, until)
        count = self._count(low, high)
        # Not one more than there are: it would be looked for in all of the past.
        found = list(islice(self._backward(low, high), min(latest, count)))
        return Missed(tuple(self._occurrence(fire_at) for fire_at in reversed(found)), count)

    def preview(self, after: datetime, count: int) -> list[Occurrence]:
        """Return the next so many, fewer if there are fewer."""
        return list(islice(self.following(after), count))

    def following(self, after: datetime) -> Iterator[Occurrence]:
        """Yield all that are later than `after`, in their order; there may be no end of them."""
        occurrence = self.next_after(after)
        while occurrence is not None:
            yield occurrence
            occurrence = self.next_after(occurrence.fire_at)

    @overload
    def _bounds(self, after: datetime, until: None) -> tuple[datetime, datetime | None]: ...
    @overload
    def _bounds(self, after: datetime, until: datetime) -> tuple[datetime, datetime]: ...
    def _bounds(self, after: datetime, until: datetime | None) -> tuple[datetime, datetime | None]:
        """Narrow a span to start and end."""
        low = after.astimezone(UTC)
        high = until.astimezone(UTC) if until is not None else None
        if self.start_at is not None:
            low = max(low, self.start_at - TICK)
        if self.end_at is not None:
            high = min(high, self.end_at) if high is not None else self.end_at
        return low, high

    def _next(self, instant: datetime) -> datetime | None:
        """Return the first later than `instant` on a day that is no exception."""
        found = self.times.after(instant)
        horizon = instant.year + _YEARS
        while found is not None and self.exceptions:
            day = self._date(found)
            reopened = self.exceptions.first_open(day)
            if reopened == day:
                return found
            if reopened is None or reopened.year > horizon:
                return None
            # Never back: a change of the clock may show the end of a day again.
            found = self.times.after(max(self._start_of(reopened) - TICK, found))
        return found

    def _backward(self, low: datetime, high: datetime) -> Iterator[datetime]:
        """Yield those in (`low`, `high`] on days that are no exceptions, the latest first."""
        found = self.times.until(high)
        while found is not None and found > low:
            day = self._date(found)
            closed = self.exceptions.last_open(day) if self.exceptions else day
            if closed == day:
                yield found
                found = self.times.until(found - TICK)
            elif closed is None:
                return
            else:
                found = self.times.until(min(self._start_of(closed + _DAY), found) - TICK)

    def _count(self, low: datetime, high: datetime) -> int:
        """Count those in (`low`, `high`]: all, less those on days that are exceptions."""
        if high <= low:
            return 0
        counted = self.times.count(low, high)
        if not self.exceptions or not counted:
            return counted
        first, last = self._date(low), self._date(high)
        for number in range((last - first).days + 1):
            day = first + number * _DAY
            if self.exceptions.has(day):
                since = max(low, self._start_of(day) - TICK)
                until = min(high, self._start_of(day + _DAY) - TICK)
                counted -= self.times.count(since, until)
        return counted

    def _date(self, instant: datetime) -> date:
        return instant.astimezone(ZoneInfo(self.zone)).date()

    def _start_of(self, day: date) -> datetime:
        return datetime.combine(day, time(), ZoneInfo(self.zone)).astimezone(UTC)

    def _occurrence(self, fire_at: datetime) -> Occurrence:
        return Occurrence(fire_at, fire_at + self._delay(fire_at))

    def _delay(self, fire_at: datetime) -> timedelta:
        """Return the jitter of a firing: the same in every process, and before the next one."""
        if not self.jitter:
            return self.jitter
        following = self.times.after(fire_at)
        width = self.jitter if following is None else min(self.jitter, following - fire_at)
        digest = sha256(f"{self.key}:{fire_at.isoformat()}".encode()).digest()
        share = int.from_bytes(digest[:8], "big")
        return timedelta(microseconds=width // TICK * share >> 64)


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
    exceptions: Sequence[Any] = (),
) -> Timing:
    """Return the timing of a schedule that was made at `made_at`, by the database's clock.

    `exceptions` are those of its calendar, as a row keeps them.

    Raises:
        ValueError: the expression of cron, or one of the exceptions, is none.
    """
    start_at = start_at.astimezone(UTC) if start_at is not None else None
    return Timing(
        times=_times(trigger, time_zone, begun_at=start_at or made_at.astimezone(UTC)),
        key=key,
        start_at=start_at,
        end_at=end_at.astimezone(UTC) if end_at is not None else None,
        jitter=ticks_of(jitter_seconds),
        zone=time_zone,
        exceptions=_read_days(json.dumps(exceptions)) if exceptions else NO_EXCEPTIONS,
    )


@lru_cache(maxsize=_REMEMBERED)
def _read_days(exceptions: str) -> ExceptionDays:
    """Read them, or remember them: a thousand schedules of one calendar come due at once."""
    return ExceptionDays.read(json.loads(exceptions))


def _times(trigger: Trigger, zone: str, *, begun_at: datetime) -> Times:
    if isinstance(trigger, AtTrigger):
        return Once(trigger.at)
    if isinstance(trigger, DelayTrigger):
        return Once(trigger.at or begun_at + ticks_of(trigger.seconds))
    if isinstance(trigger, IntervalTrigger):
        return Every(trigger.anchor or begun_at, ticks_of(trigger.seconds))
    return ClockTimes(read_expression(trigger.expression), zone)
