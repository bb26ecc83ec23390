"""Triggers, zones and calendars as they are written: what is refused, of which field, and why."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from headrace_dispatcher.scheduling.calendar_days import EXCEPTIONS, MOST_EXCEPTIONS
from headrace_dispatcher.scheduling.triggers import TRIGGERS, Instant
from headrace_dispatcher.scheduling.zones import ZoneName


def faults(model: TypeAdapter[Any], value: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.validate_python(value)
    return [
        (".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, "))
        for fault in caught.value.errors()
    ]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("60 * * * *", "minute: '60' is not within 0-59"),
        ("* 25 * * *", "hour: '25' is not within 0-23"),
        ("5,61 * * * *", "minute: '61' is not within 0-59"),
        ("0 0 0 * *", "day of month: '0' is not within 1-31"),
        ("0 0 * 13 *", "month: '13' is not within 1-12"),
        ("0 0 * * 8", "day of week: '8' is not within 0-7"),
        ("99 0 0 * * *", "second: '99' is not within 0-59"),
        ("10-5 * * * *", "minute: '10-5' ends before it begins"),
        ("0 0 * * FRI-MON", "day of week: 'FRI-MON' ends before it begins"),
        ("*/0 * * * *", "minute: '*/0' needs a number from 1 on behind its slash"),
        ("*/x * * * *", "minute: '*/X' needs a number from 1 on behind its slash"),
        ("* -1 * * *", "hour: '-1' cannot be read; numbers of this field are within 0-23"),
        ("1,,2 * * * *", "minute: '' cannot be read; numbers of this field are within 0-59"),
        ("1-2-3 * * * *", "minute: '1-2-3' cannot be read"),
        ("0 0 ? * *", "day of month: '?' cannot be read; numbers of this field are within 1-31"),
        (
            "0 0 * * MON#6",
            "day of week: 'MON#6' needs a day of the week and, behind its #",
        ),
        ("0 0 * * XL", "day of week: 'XL' names what is none of SUN, MON, TUE, WED, THU, FRI, SAT"),
        ("0 0 * FOO *", "month: 'FOO' names what is none of JAN, FEB, MAR, APR, MAY, JUN, JUL,"),
        ("0 0 * * mondays", "day of week: 'MONDAYS' names what is none of SUN,"),
        ("0 */25 * * *", "hour: '*/25' has a step of 25 in a field of 24, which it never takes"),
        ("*/90 * * * *", "minute: '*/90' has a step of 90 in a field of 60, which it never takes"),
        ("0 0 30 2 *", "never fires: there is no such day in its months"),
        ("0 0 31 2,4,6 *", "never fires: there is no such day in its months"),
        ("0 0 */29 2 1#2", "never fires: there is no such day in its months"),
        ("0 9 * *", "has 4 fields; give five"),
        ("", "has 0 fields; give five"),
        ("0 0 0 1 1 * 2027", "has 7 fields; give five"),
        ("@reboot", "'@reboot' is unknown; there are @hourly, @daily, @midnight"),
        ("@every 5m", "'@every 5m' is unknown; there are @hourly"),
    ],
)
def test_a_bad_expression_says_which_field_and_why(expression: str, message: str) -> None:
    [(field, told)] = faults(TRIGGERS, {"type": "cron", "expression": expression})
    assert field == "cron.expression"
    assert told.startswith(message)


@pytest.mark.parametrize("expression", ["9" * 5_000 + " * * * *", "1," * 5_000 + "1 * * * *"])
def test_an_expression_is_read_within_bounds_only(expression: str) -> None:
    [(field, _)] = faults(TRIGGERS, {"type": "cron", "expression": expression})
    assert field == "cron.expression"


@pytest.mark.parametrize(
    "expression", ["٣ * * * *", "² * * * *", "*/² * * * *", "ß * * * *", "0 0 * * MONß"]
)
def test_an_expression_of_other_digits_is_refused(expression: str) -> None:
    [(field, told)] = faults(TRIGGERS, {"type": "cron", "expression": expression})
    assert field == "cron.expression"
    assert told.startswith(("minute: ", "day of week: "))


def test_an_expression_is_kept_as_it_was_written() -> None:
    written = {"type": "cron", "expression": " 0  9 * jan mon-fri "}
    assert TRIGGERS.validate_python(written).model_dump() == written


@pytest.mark.parametrize(
    ("trigger", "field"),
    [
        ({"type": "at"}, "at.at"),
        ({"type": "at", "at": "2026-12-24T18:00:00"}, "at.at"),
        ({"type": "at", "at": "3000-01-01T00:00:00Z"}, "at.at"),
        ({"type": "at", "at": "0001-01-01T00:00:00+14:00"}, "at.at"),
        ({"type": "at", "at": "9999-12-31T23:59:59-12:00"}, "at.at"),
        ({"type": "delay", "seconds": -1}, "delay.seconds"),
        ({"type": "delay", "seconds": "inf"}, "delay.seconds"),
        ({"type": "interval", "seconds": 0.5}, "interval.seconds"),
        ({"type": "interval", "seconds": 1e12}, "interval.seconds"),
        ({"type": "interval", "seconds": "nan"}, "interval.seconds"),
        ({"type": "interval", "seconds": 5, "anchor": "soon"}, "interval.anchor"),
        ({"type": "interval", "seconds": 5, "minutes": 5}, "interval.minutes"),
        ({"type": "sometimes"}, ""),
        ({}, ""),
        ("@daily", ""),
    ],
)
def test_a_bad_trigger_names_its_field(trigger: object, field: str) -> None:
    assert [fault[0] for fault in faults(TRIGGERS, trigger)] == [field]


def test_times_are_kept_in_utc() -> None:
    instant = TypeAdapter[Any](Instant).validate_python("2026-12-24T18:00:00+01:00")
    assert instant.isoformat() == "2026-12-24T17:00:00+00:00"


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("Europe/Berln", "is no time zone of the IANA database; did you mean 'Europe/Berlin'?"),
        ("../../etc/passwd", "is no time zone of the IANA database, such as 'Europe/Berlin'"),
        ("Europe", "is no time zone of the IANA database; did you mean 'Europe/"),
        ("localtime", "is no time zone of the IANA database"),
        ("", "is no time zone of the IANA database"),
    ],
)
def test_an_unknown_zone_is_refused(zone: str, message: str) -> None:
    [(_, told)] = faults(TypeAdapter(ZoneName), zone)
    assert told.startswith(message)


@pytest.mark.parametrize(
    ("exception", "field", "message"),
    [
        ("2026-02-30", "0", "'2026-02-30' is no day of the calendar"),
        ("02-30", "0", "'02-30' is no day of any year"),
        ("1066-10-14", "0", "'1066-10-14' is not within the years 1970 to 2999"),
        ("christmas", "0", "'christmas' is no day; write YYYY-MM-DD, or MM-DD for every year"),
        ("20261224", "0", "'20261224' is no day; write YYYY-MM-DD, or MM-DD for every year"),
        (20261224, "0", "must be 'YYYY-MM-DD', 'MM-DD' for every year, or {from, to}"),
        ({"from": "2026-12-24"}, "0.to", "Field required"),
        ({"from": "12-24", "to": "2026-12-26"}, "0.from", "'12-24' is no day; write YYYY-MM-DD"),
        ({"from": "2026-12-26", "to": "2026-12-24"}, "0.to", "is before `from`"),
        ({"from": "2026-12-26", "to": "2026-12-27", "x": 1}, "0.x", "Extra inputs"),
    ],
)
def test_a_bad_exception_names_its_field(exception: object, field: str, message: str) -> None:
    [(where, told)] = faults(EXCEPTIONS, [exception])
    assert where == field
    assert told.startswith(message)


def test_exceptions_are_kept_as_they_were_written() -> None:
    written = ["2026-12-24", "02-29", {"from": "2026-12-26", "to": "2026-12-26"}]
    read = EXCEPTIONS.validate_python(written)
    assert EXCEPTIONS.dump_python(read, mode="json", by_alias=True) == written
    assert len(faults(EXCEPTIONS, ["12-24"] * (MOST_EXCEPTIONS + 1))) == 1
