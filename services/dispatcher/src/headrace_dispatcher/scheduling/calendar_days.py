"""Calendars: days on which schedules do not fire, by the date in the schedule's time zone."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from headrace_dispatcher.scheduling.times import FIRST_YEAR, LAST_YEAR

#: Most exceptions of one calendar.
MOST_EXCEPTIONS: Final = 2_000
_DAY: Final = timedelta(days=1)
#: Farthest that an open day is looked for: 29 February may be eight years off.
_FARTHEST: Final = 9 * 366
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_YEARLY: Final = re.compile(r"\d{2}-\d{2}")
_LEAP_YEAR: Final = 2000


def _date(text: str) -> date:
    """Read YYYY-MM-DD.

    Raises:
        ValueError: it is none.
    """
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is no day; write YYYY-MM-DD")
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no day of the calendar") from None
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError(f"{text!r} is not within the years {FIRST_YEAR} to {LAST_YEAR}")
    return found


def _yearly(text: str) -> date:
    """Read MM-DD as a day of a leap year.

    Raises:
        ValueError: no year has it.
    """
    try:
        return date.fromisoformat(f"{_LEAP_YEAR}-{text}")
    except ValueError:
        raise ValueError(f"{text!r} is no day of any year") from None


def _is_date(text: str) -> str:
    _date(text)
    return text


#: A day, YYYY-MM-DD.
Day = Annotated[str, AfterValidator(_is_date), Field(examples=["2026-12-24"])]


class DaySpan(BaseModel):
    """Days from one to another, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    first: Day = Field(alias="from")
    last: Day = Field(alias="to")

    @field_validator("last")
    @classmethod
    def _is_not_before(cls, last: str, info: ValidationInfo) -> str:
        first = info.data.get("first")
        if first is not None and last < first:
            raise ValueError("is before `from`")
        return last


def _exception(value: Any) -> str | DaySpan:
    """Read by what was given, so that a fault is told once and of the right field."""
    if isinstance(value, DaySpan):
        return value
    if isinstance(value, Mapping):
        return DaySpan.model_validate(value)
    if not isinstance(value, str):
        raise ValueError("must be 'YYYY-MM-DD', 'MM-DD' for every year, or {from, to}")  # noqa: TRY004
    if _YEARLY.fullmatch(value):
        _yearly(value)
    elif not _DATE.fullmatch(value):
        raise ValueError(f"{value!r} is no day; write YYYY-MM-DD, or MM-DD for every year")
    else:
        _date(value)
    return value


#: An exception of a calendar: a day, a day of every year, or a span of days.
DayException = Annotated[
    str | DaySpan,
    BeforeValidator(_exception),
    Field(examples=["2026-12-24", "12-25", {"from": "2026-12-24", "to": "2027-01-06"}]),
]
#: Reads and writes what a row keeps.
EXCEPTIONS: Final[TypeAdapter[list[DayException]]] = TypeAdapter(
    Annotated[list[DayException], Field(max_length=MOST_EXCEPTIONS)]
)


@dataclass(frozen=True)
class ExceptionDays:
    """The exceptions of a calendar, as days."""

    single: frozenset[date] = frozenset()
    yearly: frozenset[tuple[int, int]] = frozenset()
    spans: tuple[tuple[date, date], ...] = ()

    @classmethod
    def read(cls, exceptions: Sequence[Any]) -> Self:
        """Read what a row keeps.

        Raises:
            pydantic.ValidationError: one says no day.
        """
        single: set[date] = set()
        yearly: set[tuple[int, int]] = set()
        spans: list[tuple[date, date]] = []
        for exception in EXCEPTIONS.validate_python(list(exceptions)):
            if isinstance(exception, DaySpan):
                spans.append((_date(exception.first), _date(exception.last)))
            elif _YEARLY.fullmatch(exception):
                day = _yearly(exception)
                yearly.add((day.month, day.day))
            else:
                single.add(_date(exception))
        return cls(frozenset(single), frozenset(yearly), tuple(sorted(spans)))

    def __bool__(self) -> bool:
        return bool(self.single or self.yearly or self.spans)

    def has(self, day: date) -> bool:
        """Whether nothing fires on a day."""
        return (
            day in self.single
            or (day.month, day.day) in self.yearly
            or self._span_of(day) is not None
        )

    def first_open(self, day: date) -> date | None:
        """Return `day`, or the first after it that is no exception; None: none in nine years."""
        for _ in range(_FARTHEST):
            if not self.has(day):
                return day
            span = self._span_of(day)
            day = (span[1] if span is not None else day) + _DAY
        return None

    def last_open(self, day: date) -> date | None:
        """Return `day`, or the last before it that is no exception; None: none in nine years."""
        for _ in range(_FARTHEST):
            if not self.has(day):
                return day
            span = self._span_of(day)
            day = (span[0] if span is not None else day) - _DAY
        return None

    def _span_of(self, day: date) -> tuple[date, date] | None:
        return next((span for span in self.spans if span[0] <= day <= span[1]), None)


#: Of a schedule without a calendar.
NO_EXCEPTIONS: Final = ExceptionDays()
