"""Times at which triggers fire, as instants in UTC: found by arithmetic, never one by one.

Each is an APScheduler trigger too, so that APScheduler can run it; the clock it is asked with
is that of the database.
"""

from abc import abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.triggers.base import BaseTrigger

#: Times of schedules and days of calendars lie in these years, so that no arithmetic leaves them.
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2999
#: Resolution of every time here, and of the database.
TICK: Final = timedelta(microseconds=1)


class Times(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """The instants of a trigger, before start, end and calendar have their say."""

    @abstractmethod
    def after(self, instant: datetime) -> datetime | None:
        """Return the first later than `instant`; None: there is none."""

    @abstractmethod
    def until(self, instant: datetime) -> datetime | None:
        """Return the last that is not later than `instant`; None: there is none."""

    @abstractmethod
    def count(self, after: datetime, until: datetime) -> int:
        """Count those in (`after`, `until`]."""

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Answer APScheduler."""
        return self.after(previous_fire_time or now.astimezone(UTC) - TICK)


@dataclass(frozen=True)
class Once(Times):
    """A single instant."""

    at: datetime

    def after(self, instant: datetime) -> datetime | None:
        """Return it while it lies ahead."""
        return self.at if self.at > instant else None

    def until(self, instant: datetime) -> datetime | None:
        """Return it once it is past."""
        return self.at if self.at <= instant else None

    def count(self, after: datetime, until: datetime) -> int:
        """Return 1 if it is there."""
        return int(after < self.at <= until)


@dataclass(frozen=True)
class Every(Times):
    """Instants at equal distances from `anchor` on, which is the first.

    APScheduler's IntervalTrigger reckons with floats, and from its previous firing: two processes
    would differ by microseconds, and a firing is known by its instant.
    """

    anchor: datetime
    step: timedelta

    def after(self, instant: datetime) -> datetime | None:
        """Return the first later than `instant`."""
        if instant < self.anchor:
            return self.anchor
        return self._nth((instant - self.anchor) // self.step + 1)

    def until(self, instant: datetime) -> datetime | None:
        """Return the last that is not later."""
        if instant < self.anchor:
            return None
        return self._nth((instant - self.anchor) // self.step)

    def count(self, after: datetime, until: datetime) -> int:
        """Count by division."""
        if until <= after or until < self.anchor:
            return 0
        passed = (after - self.anchor) // self.step + 1 if after >= self.anchor else 0
        return (until - self.anchor) // self.step + 1 - passed

    def _nth(self, number: int) -> datetime:
        return self.anchor + number * self.step


def ticks_of(seconds: float) -> timedelta:
    """Return seconds as a distance of whole ticks."""
    return timedelta(microseconds=round(seconds * 1_000_000))
