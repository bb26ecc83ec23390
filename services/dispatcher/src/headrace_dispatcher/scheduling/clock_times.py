"""Times of an expression of cron in a time zone: what changes of the clock do to them.

The rule is Debian's. An expression whose minute and hour are fixed means a time on the clock: one
that is skipped fires in the first minute after the gap, one that comes twice fires the first time.
An expression with a star in the minute or the hour means a rhythm, so it fires whenever the clock
shows what it says: not in the gap, and in both of the hours that are one.

Each stretch between two changes has an offset of its own. Within it instants and the hands of the
clock differ by that offset only, so a stretch is asked about hands, and the rule is which hands
belong to it. cronsim on its own goes through a change one hour at a time, which loses times where
the change is of 30 minutes, and goes back behind its start inside the repeated hour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from headrace_dispatcher.scheduling.cron import CronExpression
from headrace_dispatcher.scheduling.times import Times
from headrace_dispatcher.scheduling.zones import Stretch, stretches_back, stretches_from

#: Farthest that is searched, in years; a 29 February on a Monday may be 40 years off.
_YEARS: Final = 50
#: Nothing is searched outside of these years.
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 3100
_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class ClockTimes(Times):
    """When an expression fires in a zone."""

    expression: CronExpression
    zone: str

    def after(self, instant: datetime) -> datetime | None:
        """Return the first later than `instant`; None: none in 50 years."""
        ahead = _Search(self.expression.after)
        last_year = min(instant.year + _YEARS, _LAST_YEAR)
        for stretch in stretches_from(self.zone, instant, last_year):
            for made_up in self._made_up(stretch, ahead, after=instant):
                if made_up > instant:
                    return made_up
            clock = max(self._low(stretch), _clock(instant, stretch))
            found = ahead.ask(clock)
            if found is not None and found <= _high(stretch):
                return _instant(found, stretch)
        return None

    def until(self, instant: datetime) -> datetime | None:
        """Return the last that is not later than `instant`; None: none in 50 years."""
        behind = _Search(self.expression.before)
        first_year = max(instant.year - _YEARS, _FIRST_YEAR)
        for stretch in stretches_back(self.zone, instant, first_year):
            clock = min(_high(stretch), _clock(instant, stretch)) + _SECOND
            found = behind.ask(clock)
            if found is not None and found > self._low(stretch):
                return _instant(found, stretch)
            for made_up in reversed(self._made_up(stretch, _Search(self.expression.after))):
                if made_up <= instant:
                    return made_up
        return None

    def count(self, after: datetime, until: datetime) -> int:
        """Count those in (`after`, `until`], by days and not one by one."""
        ahead = _Search(self.expression.after)
        counted = 0
        for stretch in stretches_from(self.zone, after, min(until.year, _LAST_YEAR)):
            if stretch.start > until:
                break
            made_up = self._made_up(stretch, ahead, after=after)
            counted += sum(after < instant <= until for instant in made_up)
            counted += self.expression.count(
                max(self._low(stretch), _clock(after, stretch)),
                min(_high(stretch), _clock(until, stretch)),
            )
        return counted

    def _low(self, stretch: Stretch) -> datetime:
        """Return the hands just before the first that belong to a stretch.

        To a fixed expression those that the stretch before it has shown already do not.
        """
        offset = stretch.offset
        if self.expression.is_fixed:
            offset = max(offset, stretch.previous)
        return _hands(stretch.start, offset) - _SECOND

    def _made_up(
        self, stretch: Stretch, ahead: "_Search", *, after: datetime | None = None
    ) -> Sequence[datetime]:
        """Return what a fixed expression fires for times in the gap before a stretch.

        That is the first minute after the gap, unless it is one of the expression's in any case.
        `after` spares the search for it where only what is later matters.
        """
        if not self.expression.is_fixed or stretch.offset <= stretch.previous:
            return ()
        if after is not None and after >= stretch.start + _MINUTE:
            return ()
        end = _hands(stretch.start, stretch.offset) - _SECOND
        skipped = ahead.ask(_hands(stretch.start, stretch.previous) - _SECOND)
        if skipped is None or skipped > end:
            return ()
        following = ahead.ask(end)
        if following is not None and following <= end + _MINUTE:
            return ()
        return [stretch.start + second * _SECOND for second in self.expression.seconds]


class _Search:
    """Asks an expression, and remembers its last answer: a rare one outlasts many stretches."""

    def __init__(self, ask: Callable[[datetime], datetime | None]) -> None:
        """Ask forward with `CronExpression.after`, backward with `before`."""
        self._ask = ask
        self._asked: datetime | None = None
        self._found: datetime | None = None

    def ask(self, clock: datetime) -> datetime | None:
        """Return the expression's time next to `clock`, itself excluded."""
        if self._asked is None or not self._holds(self._asked, clock):
            self._asked, self._found = clock, self._ask(clock)
        return self._found

    def _holds(self, asked: datetime, clock: datetime) -> bool:
        found = self._found
        if found is None:
            return True
        return asked <= clock < found or found < clock <= asked


def _high(stretch: Stretch) -> datetime:
    """Return the last hands of a stretch."""
    return _hands(stretch.end, stretch.offset) - _SECOND


def _clock(instant: datetime, stretch: Stretch) -> datetime:
    """Return the hands at an instant, or what they would be if the stretch went that far."""
    return _hands(instant, stretch.offset).replace(microsecond=0)


def _hands(instant: datetime, offset: timedelta) -> datetime:
    return (instant + offset).replace(tzinfo=None)


def _instant(hands: datetime, stretch: Stretch) -> datetime:
    return (hands - stretch.offset).replace(tzinfo=UTC)
