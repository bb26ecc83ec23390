"""Changes of the clock: the tables of the documentation, and a second way to reckon them.

The second way follows the rule word by word, minute by minute: slow, and shares nothing with the
first but cronsim's knowledge of fields and days.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_dispatcher.scheduling.timing import Timing, make_timing
from headrace_dispatcher.scheduling.triggers import CronTrigger
from headrace_dispatcher.scheduling.zones import is_zone, stretches_from

PAGE = Path(__file__).parents[3] / "docs/reference/schedules.md"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ROW = re.compile(r"\| (?P<night>\d{4}-\d\d-\d\d) \| `(?P<expression>[^`]+)` \| (?P<fires>.+) \|")
#: UTC instants of every change of 2026 and 2027, looked up by hand.
CHANGES = {
    "Europe/Berlin": [
        "2026-03-29 01:00",
        "2026-10-25 01:00",
        "2027-03-28 01:00",
        "2027-10-31 01:00",
    ],
    "America/New_York": [
        "2026-03-08 07:00",
        "2026-11-01 06:00",
        "2027-03-14 07:00",
        "2027-11-07 06:00",
    ],
    "Australia/Lord_Howe": [
        "2026-04-04 15:00",
        "2026-10-03 15:30",
        "2027-04-03 15:00",
        "2027-10-02 15:30",
    ],
    "Asia/Seoul": [],
    # Two hours; midnight itself; a winter time that is less by law; Ramadan.
    "Antarctica/Troll": ["2026-03-29 01:00", "2026-10-25 01:00"],
    "America/Havana": ["2026-03-08 05:00", "2026-11-01 05:00"],
    "Europe/Dublin": ["2026-03-29 01:00", "2026-10-25 01:00"],
    "Africa/Casablanca": ["2026-02-15 02:00", "2026-03-22 02:00"],
}


def timing(expression: str, zone: str) -> Timing:
    return make_timing(
        CronTrigger(expression=expression),
        key="a-schedule",
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        time_zone=zone,
    )


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rows() -> list[tuple[str, str, str, str]]:
    found: list[tuple[str, str, str, str]] = []
    zone = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("### Nights in "):
            zone = line.removeprefix("### Nights in ")
        elif row := ROW.fullmatch(line):
            found.append((zone, row["night"], row["expression"], row["fires"]))
    return found


def told(fire_at: datetime, zone: str) -> str:
    form = "%H:%M:%S" if fire_at.second else "%H:%M"
    return f"{fire_at.astimezone(ZoneInfo(zone)):{form}} ({fire_at:{form}})"


@pytest.mark.parametrize(("zone", "night", "expression", "fires"), rows())
def test_what_the_tables_of_the_documentation_say(
    zone: str, night: str, expression: str, fires: str
) -> None:
    begin, end = (
        datetime.fromisoformat(f"{night} {hour}").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        for hour in ("01:00", "04:00")
    )
    found = timing(expression, zone).between(begin - SECOND, end - SECOND, latest=100)
    assert (", ".join(told(it.fire_at, zone) for it in found.latest) or "none") == fires
    assert found.count == len(found.latest)


def test_the_tables_cover_both_changes_of_both_years() -> None:
    covered = {(zone, night) for zone, night, _, _ in rows()}
    for zone in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"):
        nights = {
            str(instant(change).astimezone(ZoneInfo(zone)).date()) for change in CHANGES[zone]
        }
        assert len(nights) == 4
        assert {night for its_zone, night in covered if its_zone == zone} == nights
    assert len([night for zone, night in covered if zone == "Asia/Seoul"]) == 4


@pytest.mark.parametrize("zone", CHANGES)
def test_stretches_end_where_the_clock_changes(zone: str) -> None:
    changes = [
        stretch.start
        for stretch in stretches_from(zone, instant("2026-01-01"), 2027)
        if stretch.offset != stretch.previous
    ]
    assert [instant(change) for change in CHANGES[zone]] == changes[: len(CHANGES[zone]) or None]


@pytest.mark.parametrize(
    ("zone", "expression", "asked", "fires"),
    [
        # 02:45 the second time: a time on the clock had its turn, a rhythm goes on.
        ("Europe/Berlin", "50 2 * * *", "2026-10-25 01:45", "2026-10-26 01:50"),
        ("Europe/Berlin", "50 * * * *", "2026-10-25 01:45", "2026-10-25 01:50"),
        # 02:45 the first time.
        ("Europe/Berlin", "50 2 * * *", "2026-10-25 00:45", "2026-10-25 00:50"),
        ("Europe/Berlin", "40 * * * *", "2026-10-25 00:45", "2026-10-25 01:40"),
        # At the very change, and a microsecond before it.
        ("Europe/Berlin", "0 2 * * *", "2026-10-25 01:00", "2026-10-26 01:00"),
        ("Europe/Berlin", "0 * * * *", "2026-10-25 00:59:59.999999", "2026-10-25 01:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29 00:59:59.999999", "2026-03-29 01:00"),
        ("Europe/Berlin", "30 2 * * *", "2026-03-29 01:00", "2026-03-30 00:30"),
        ("Europe/Berlin", "30 30 2 * * *", "2026-03-29 01:00", "2026-03-29 01:00:30"),
        ("Europe/Berlin", "*/20 30 2 * * *", "2026-03-29 01:00:20", "2026-03-29 01:00:40"),
        ("Europe/Berlin", "59 59 2 * * *", "2026-03-29 00:59:59", "2026-03-29 01:00:59"),
        ("America/New_York", "30 1 * * *", "2026-11-01 06:10", "2026-11-02 06:30"),
        ("America/New_York", "*/30 1 * * *", "2026-11-01 06:10", "2026-11-01 06:30"),
        # The change of half an hour: 01:40 the second time, and the hour after the gap.
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 15:10", "2026-04-05 15:15"),
        ("Australia/Lord_Howe", "*/15 * * * *", "2026-04-04 15:10", "2026-04-04 15:15"),
        ("Australia/Lord_Howe", "*/15 5 * * *", "2026-10-03 14:30", "2026-10-03 18:00"),
        ("America/Havana", "@daily", "2026-03-08 04:30", "2026-03-08 05:00"),
        ("America/Havana", "@daily", "2026-11-01 04:30", "2026-11-02 05:00"),
        ("Asia/Seoul", "30 2 * * *", "2026-03-28 17:30", "2026-03-29 17:30"),
    ],
)
def test_a_search_may_begin_next_to_a_change(
    zone: str, expression: str, asked: str, fires: str
) -> None:
    when = timing(expression, zone)
    found = when.next_after(instant(asked))
    assert found is not None
    assert found.fire_at == instant(fires)
    # However the caller writes the instant.
    assert when.next_after(instant(asked).astimezone(ZoneInfo(zone))) == found


def by_the_rule(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """Return all that fires in (`begin`, `end`], minute by minute."""
    fields = expression.split()
    fields = fields if len(fields) == 6 else ["0", *fields]
    cron = CronSim(" ".join(fields), datetime(2026, 1, 1))  # noqa: DTZ001
    is_fixed = not (fields[1].startswith("*") or fields[2].startswith("*"))

    def matches(clock: datetime) -> bool:
        return (
            clock.minute in cron.minutes
            and clock.hour in cron.hours
            and clock.month in cron.months
            and cron.match_day(clock.date())
        )

    found: set[datetime] = set()
    place = ZoneInfo(zone)
    if is_fixed:
        clock = (begin.astimezone(place) - 3 * HOUR).replace(tzinfo=None, second=0)
        while clock.replace(tzinfo=UTC) < end + 15 * HOUR:
            if matches(clock):
                found.add(first_shown(clock, place))
            clock += MINUTE
    else:
        at = begin.replace(second=0)
        while at <= end:
            if matches(at.astimezone(place)):
                found.add(at)
            at += MINUTE
    fires = {minute + second * SECOND for minute in found for second in cron.seconds}
    return sorted(at for at in fires if begin < at <= end)


def first_shown(clock: datetime, place: ZoneInfo) -> datetime:
    """Return when a clock shows a time first, or the first minute after the gap that it is in."""
    while (
        clock.replace(tzinfo=place).astimezone(UTC).astimezone(place).replace(tzinfo=None) != clock
    ):
        clock += MINUTE
    return clock.replace(tzinfo=place).astimezone(UTC)


minutes = st.one_of(
    st.sampled_from(["*", "*/30", "*/7", "0-59/15", "10-40"]),
    st.lists(st.integers(0, 59), min_size=1, max_size=3).map(lambda it: ",".join(map(str, it))),
)
hours = st.one_of(
    st.sampled_from(["*", "*/2", "1-3", "0,2", "0-23", "23"]), st.integers(0, 4).map(str)
)
expressions = st.tuples(
    st.sampled_from(["", "", "0 ", "30 ", "5,55 ", "*/20 "]),
    minutes,
    hours,
    st.sampled_from(["*", "*", "*", "*/2", "1-15"]),
    st.just("*"),
    st.sampled_from(["*", "*", "*", "SUN", "MON-SAT"]),
).map(lambda it: it[0] + " ".join(it[1:]))
nights = st.sampled_from(
    [(zone, instant(change)) for zone, changes in CHANGES.items() for change in changes]
)


@given(expressions, nights, st.integers(-4 * 3600, 4 * 3600), st.integers(1, 8 * 3600))
@settings(max_examples=150, deadline=None)
def test_every_expression_keeps_the_rule(
    expression: str, night: tuple[str, datetime], start: int, length: int
) -> None:
    zone, change = night
    begin = change + start * SECOND
    end = begin + length * SECOND
    expected = by_the_rule(expression, zone, begin, end)
    when = timing(expression, zone)

    found = [it.fire_at for it in when.preview(begin, len(expected) + 1)]
    assert [fire_at for fire_at in found if fire_at <= end] == expected
    missed = when.between(begin, end, latest=5)
    assert [it.fire_at for it in missed.latest] == expected[-5:]
    assert missed.count == len(expected)


def test_zones_that_are_another_on_every_machine_are_none() -> None:
    assert is_zone("Europe/Berlin")
    assert is_zone("UTC")
    assert not is_zone("localtime")
    assert not is_zone("Europe")
    assert not is_zone("")
