"""Expressions of cron: read, and asked about the hands of a clock that is never changed.

Which days and times match is cronsim's knowledge: names, `L`, `#`, and Debian's rule for days of
month and week. What a change of the clock does to them is `clock_times`.
"""

import copy
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final, Self

from cronsim import CronSim, CronSimError
from cronsim.cronsim import FIELD_NAMES, RANGES, SYMBOLIC_DAYS, SYMBOLIC_MONTHS, Field

_SHORTHANDS: Final = {
    "@HOURLY": "0 * * * *",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@WEEKLY": "0 0 * * 0",
    "@MONTHLY": "0 0 1 * *",
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
}
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
#: Somewhere to search from, to see whether an expression ever fires.
_SOME_DAY: Final = datetime(2026, 1, 1)  # noqa: DTZ001 - the hands of a clock
_NAMES: Final = {Field.MONTH: SYMBOLIC_MONTHS, Field.DOW: SYMBOLIC_DAYS}
#: Expressions that are remembered after they were read.
_REMEMBERED: Final = 1_024


@dataclass(frozen=True)
class CronExpression:
    """An expression that was read. All datetimes here are hands of a clock, without a zone.

    Attributes:
        is_fixed: neither its minute nor its hour begins with a star: it means times of the clock,
            not a rhythm.
        seconds: at which it fires in each of its minutes.
    """

    is_fixed: bool
    seconds: tuple[int, ...]
    _minutes: tuple[int, ...]
    _hours: tuple[int, ...]
    _forward: CronSim
    _backward: CronSim

    @classmethod
    def parse(cls, expression: str) -> Self:
        """Read an expression.

        Raises:
            ValueError: it is none, or never comes to pass; the message says which field and why.
        """
        fields = _fields(expression)
        forward = _simulated(" ".join(fields))
        return cls(
            is_fixed=not (fields[1].startswith("*") or fields[2].startswith("*")),
            seconds=tuple(sorted(forward.seconds)),
            _minutes=tuple(sorted(forward.minutes)),
            _hours=tuple(sorted(forward.hours)),
            _forward=forward,
            _backward=CronSim(" ".join(fields), _SOME_DAY, reverse=True),
        )

    def after(self, clock: datetime) -> datetime | None:
        """Return the first time later than `clock`, a whole second; None: none in 50 years."""
        return _next(self._forward, clock)

    def before(self, clock: datetime) -> datetime | None:
        """Return the last time earlier than `clock`, a whole second; None: none in 50 years."""
        return _next(self._backward, clock)

    def count(self, after: datetime, until: datetime) -> int:
        """Count the times in (`after`, `until`], whole seconds: by days, not one by one."""
        if until <= after:
            return 0
        whole = len(self._hours) * len(self._minutes) * len(self.seconds)
        days = (until.date() - after.date()).days
        matching = sum(self._matches(after.date() + number * _DAY) for number in range(days))
        return matching * whole + self._passed(until) - self._passed(after)

    def _passed(self, clock: datetime) -> int:
        """Count the times of its day that are not later than `clock`."""
        if not self._matches(clock.date()):
            return 0
        minutes, seconds = len(self._minutes), len(self.seconds)
        passed = bisect_left(self._hours, clock.hour) * minutes * seconds
        if clock.hour in self._hours:
            passed += bisect_left(self._minutes, clock.minute) * seconds
            if clock.minute in self._minutes:
                passed += bisect_right(self.seconds, clock.second)
        return passed

    def _matches(self, day: date) -> bool:
        return day.month in self._forward.months and self._forward.match_day(day)


@lru_cache(maxsize=_REMEMBERED)
def read_expression(expression: str) -> CronExpression:
    """Read an expression, or remember it.

    Raises:
        ValueError: as `CronExpression.parse`.
    """
    return CronExpression.parse(expression)


def _next(template: CronSim, clock: datetime) -> datetime | None:
    """Ask a copy, which is cheaper than to read the expression again."""
    simulation = copy.copy(template)
    simulation.dt = clock
    return next(simulation, None)


def _fields(expression: str) -> list[str]:
    """Split an expression into six fields."""
    text = expression.strip().upper()
    if text.startswith("@"):
        if text not in _SHORTHANDS:
            known = ", ".join(name.lower() for name in _SHORTHANDS)
            raise ValueError(f"{expression.strip()!r} is unknown; there are {known}")
        text = _SHORTHANDS[text]
    fields = text.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise ValueError(
            f"has {len(fields)} fields; give five (minute, hour, day of month, month, day of week) "
            "or six with seconds before them"
        )
    return fields


def _simulated(expression: str) -> CronSim:
    for field, text in zip(Field, expression.split(), strict=True):
        for term in text.split(","):
            _check(field, term)
    try:
        simulation = CronSim(expression, _SOME_DAY)
    except CronSimError:  # each field can be read, but the days are in none of the months
        simulation = None
    if simulation is None or _next(simulation, _SOME_DAY) is None:
        raise ValueError("never fires: there is no such day in its months")
    return simulation


def _check(field: Field, term: str) -> None:
    """Refuse a term that cannot be read, or says what is surely not meant."""
    name = FIELD_NAMES[field].replace("-", " ")
    step = term.partition("/")[2]
    size = len(RANGES[field]) - (field is Field.DOW)  # Sunday is both 0 and 7
    if step.isdecimal() and int(step) > size:
        raise ValueError(
            f"{name}: {term!r} has a step of {step} in a field of {size}, which it never "
            "takes; to fire at such a distance use a trigger of type interval"
        )
    try:
        field.parse(term)
    except CronSimError:
        raise ValueError(f"{name}: {term!r} {_fault(field, term)}") from None


def _fault(field: Field, term: str) -> str:
    """Say why cronsim refuses a term."""
    span, slash, step = term.partition("/")
    if slash and not (step.isdecimal() and int(step)):
        return "needs a number from 1 on behind its slash"
    if "#" in term and field is Field.DOW:
        return "needs a day of the week and, behind its #, a number from 1 to 5"
    values = span.split("-")
    for value in values:
        if fault := _fault_of_value(field, value):
            return fault
    if len(values) == 2:
        return "ends before it begins"
    return "cannot be read"


def _fault_of_value(field: Field, value: str) -> str | None:
    try:
        field.parse(value)
    except CronSimError:
        low, high = RANGES[field][0], RANGES[field][-1]
        if value.isdecimal():
            return f"is not within {low}-{high}"
        names = _NAMES.get(field)
        if value.isalpha() and names:
            return f"names what is none of {', '.join(names)}"
        return f"cannot be read; numbers of this field are within {low}-{high}"
    return None
