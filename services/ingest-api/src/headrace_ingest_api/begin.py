"""When the job of an upload begins: at once, at a time, or after a delay."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from pydantic import JsonValue
from sqlalchemy import func, select

from headrace_common.db import Database
from headrace_common.errors import UnprocessableError

#: Names of the query's and the form's fields, and of what a direct upload remembers.
RUN_AT: Final = "run_at"
DELAY: Final = "delay"
_DELAY_SECONDS: Final = "delay_seconds"
#: What the documentation of each says.
RUN_AT_TEXT: Final = (
    "When the job is to begin, ISO 8601 with an offset: `2026-12-24T18:00:00+01:00`. Until then it "
    "is `scheduled`; a time that has passed means at once"
)
DELAY_TEXT: Final = (
    "Instead of `run_at`: how long after it is accepted, in seconds, or as an ISO 8601 duration "
    "without years and months: `PT1H30M`"
)
_DURATION: Final = re.compile(
    r"P(?=.)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:[.,]\d+)?)S)?)?",
    re.ASCII,
)


class InvalidBeginError(UnprocessableError):
    """The time or the delay is none, or both are given, or they differ, or it is too far off."""

    code = "invalid_run_at"
    title = "Invalid time to begin"

    def __init__(self, field: str, message: str) -> None:
        """Name the field, as everything does that refuses a single one."""
        super().__init__(f"{field}: {message}", errors=[{"field": field, "message": message}])


@dataclass(frozen=True)
class Begin:
    """What a client asks for; at once where neither is set.

    Attributes:
        run_at: with a time zone.
        delay: from the moment at which the job is accepted.
    """

    run_at: datetime | None = None
    delay: timedelta | None = None

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> Self:
        """Read it from a query's or a form's fields; others do not matter.

        Raises:
            InvalidBeginError: they cannot be understood.
        """
        run_at, delay = (fields.get(name, "").strip() for name in (RUN_AT, DELAY))
        if run_at and delay:
            raise InvalidBeginError(DELAY, "give either run_at or delay")
        return cls(_read_time(run_at) if run_at else None, _read_delay(delay) if delay else None)

    @classmethod
    def remembered(cls, kept: Mapping[str, JsonValue]) -> Self:
        """Read what `to_remember` made."""
        run_at, seconds = kept.get(RUN_AT), kept.get(_DELAY_SECONDS)
        return cls(
            datetime.fromisoformat(run_at) if isinstance(run_at, str) else None,
            timedelta(seconds=seconds) if isinstance(seconds, int | float) else None,
        )

    def to_remember(self) -> dict[str, JsonValue]:
        """Return it as JSON, the same for the same wish; empty where it is at once."""
        if self.run_at is not None:
            return {RUN_AT: self.run_at.astimezone(UTC).isoformat()}
        return {} if self.delay is None else {_DELAY_SECONDS: self.delay.total_seconds()}

    @property
    def is_later(self) -> bool:
        """Whether a time was asked for at all."""
        return self.run_at is not None or self.delay is not None

    def at(self, now: datetime) -> datetime:
        """Return when a job begins that is accepted now."""
        return self.run_at or now + (self.delay or timedelta())

    def check(self, *, now: datetime, most: timedelta) -> None:
        """Check that it is not too far off.

        Raises:
            InvalidBeginError: it is further than `most`.
        """
        ahead = self.run_at - now if self.run_at is not None else self.delay
        if ahead is not None and ahead > most:
            field = RUN_AT if self.run_at is not None else DELAY
            raise InvalidBeginError(field, f"a job may begin {most.days} days from now at most")


def clock_of(database: Database) -> datetime:
    """Return the time by the clock that decides when jobs begin."""
    with database.begin() as session:
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now


def choose_begin(query: Begin, form: Mapping[str, str]) -> Begin:
    """Return what the query or the form asks for.

    Raises:
        InvalidBeginError: the form's cannot be understood, or the two differ.
    """
    told = Begin.read(form)
    if not told.is_later:
        return query
    if query.is_later and query != told:
        field = RUN_AT if told.run_at is not None else DELAY
        raise InvalidBeginError(field, "the query and the form say different times to begin")
    return told


def _read_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):  # an offset may lead beyond the years that there are
        hint = f"{text[:100]!r} is no ISO 8601 time; in a URL a plus is written %2B"
        raise InvalidBeginError(RUN_AT, hint) from None
    hint = f"{text[:100]!r} has no offset from UTC; add one, as in +09:00 or Z"
    raise InvalidBeginError(RUN_AT, hint)


def _read_delay(text: str) -> timedelta:
    try:
        delay = _read_duration(text) if text[:1] in {"P", "p"} else timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        hint = f"{text[:100]!r} is neither seconds nor an ISO 8601 duration such as PT1H30M"
        raise InvalidBeginError(DELAY, hint) from None
    if delay < timedelta():
        raise InvalidBeginError(DELAY, "it may not be negative")
    return delay


def _read_duration(text: str) -> timedelta:
    """Read an ISO 8601 duration; years and months have no fixed length, and are refused.

    Raises:
        ValueError: it is none.
        OverflowError: it is longer than anything.
    """
    found = _DURATION.fullmatch(text.upper())
    if found is None:
        raise ValueError
    parts = {
        name: float(value.replace(",", ".")) for name, value in found.groupdict().items() if value
    }
    if not parts or not all(map(math.isfinite, parts.values())):
        raise ValueError
    return timedelta(**parts)
