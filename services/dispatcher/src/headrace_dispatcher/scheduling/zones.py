"""Time zones: which there are, and their years in stretches between changes of the clock."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field

#: Names that mean another zone on every machine, or none.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
#: No zone changes its clock twice within this.
_SAMPLES: Final = timedelta(days=4)
#: Years of zones that are remembered: few zones are in use, and little is remembered of each.
_REMEMBERED: Final = 4_096


@dataclass(frozen=True)
class Stretch:
    """A span of time in which the clock of a zone was not changed.

    Attributes:
        start: its first instant: of a change, or of a year in UTC.
        end: the first instant after it.
        offset: of the clock from UTC.
        previous: the offset just before `start`; the same where a year began.
    """

    start: datetime
    end: datetime
    offset: timedelta
    previous: timedelta


def is_zone(name: str) -> bool:
    """Whether there is a zone of this name."""
    return name in _names()


def _checked(name: str) -> str:
    if is_zone(name):
        return name
    near = get_close_matches(name, _names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ", such as 'Europe/Berlin'"
    raise ValueError(f"is no time zone of the IANA database{hint}")


#: Name of a zone in the IANA database.
ZoneName = Annotated[
    str, Field(max_length=64, examples=["Europe/Berlin"]), AfterValidator(_checked)
]


def stretches_from(zone: str, instant: datetime, last_year: int) -> Iterator[Stretch]:
    """Yield the stretch that `instant` lies in, and those after it, to the end of a year."""
    for year in range(instant.year, last_year + 1):
        for stretch in _stretches(zone, year):
            if stretch.end > instant:
                yield stretch


def stretches_back(zone: str, instant: datetime, first_year: int) -> Iterator[Stretch]:
    """Yield the stretch that `instant` lies in, and those before it, to the start of a year."""
    for year in range(instant.year, first_year - 1, -1):
        for stretch in reversed(_stretches(zone, year)):
            if stretch.start <= instant:
                yield stretch


@cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones() - _NO_ZONES)


@lru_cache(maxsize=_REMEMBERED)
def _stretches(zone: str, year: int) -> tuple[Stretch, ...]:
    """Return the stretches of a year in UTC."""
    info = ZoneInfo(zone)
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    found: list[Stretch] = []
    previous = _offset(info, start - timedelta(seconds=1))
    low = start
    while low < end:
        offset = _offset(info, low)
        change = _next_change(info, low, end)
        found.append(Stretch(low, change, offset, previous))
        low, previous = change, offset
    return tuple(found)


def _next_change(info: ZoneInfo, low: datetime, end: datetime) -> datetime:
    """Return the first instant after `low` at which the offset is another, `end` at most."""
    offset = _offset(info, low)
    high = low
    while high < end:
        low, high = high, min(high + _SAMPLES, end)
        if _offset(info, high) != offset:
            seconds = range(1, int((high - low).total_seconds()) + 1)
            first = bisect_right(
                seconds,
                0,
                key=lambda after: _offset(info, low + timedelta(seconds=after)) != offset,
            )
            return low + timedelta(seconds=seconds[first])
    return end


def _offset(info: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(info).utcoffset() or timedelta(0)
