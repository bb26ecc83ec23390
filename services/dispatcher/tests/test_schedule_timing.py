"""When schedules fire: intervals, start and end, jitter, calendars; and that it costs little."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_common.db.models import Calendar, Schedule
from headrace_dispatcher.scheduling.calendar_days import ExceptionDays
from headrace_dispatcher.scheduling.times import TICK, Every, Once
from headrace_dispatcher.scheduling.timing import Timing, make_timing, timing_of
from headrace_dispatcher.scheduling.triggers import (
    AtTrigger,
    CronTrigger,
    DelayTrigger,
    IntervalTrigger,
    Trigger,
    resolved,
)

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days")
)


def timing(trigger: Trigger, **told: Any) -> Timing:
    return make_timing(trigger, **{"key": "a-schedule", "made_at": NOW, **told})


def cron(expression: str, **told: Any) -> Timing:
    return timing(CronTrigger(expression=expression), **told)


def fires(when: Timing, count: int, after: datetime = NOW) -> list[str]:
    return [f"{it.fire_at:%Y-%m-%d %H:%M:%S}" for it in when.preview(after, count)]


def test_a_time_and_a_delay_fire_once() -> None:
    at = timing(AtTrigger(at=NOW + HOUR))
    assert fires(at, 3) == ["2026-11-26 04:00:00"]
    assert at.next_after(NOW + HOUR) is None
    assert at.between(NOW, NOW + DAY, latest=5).count == 1
    assert at.between(NOW + HOUR, NOW + DAY, latest=5).count == 0

    kept = resolved(DelayTrigger(seconds=90), NOW)
    assert kept.model_dump(mode="json") == {
        "type": "delay",
        "seconds": 90,
        "at": "2026-11-26T03:01:30Z",
    }
    assert resolved(kept, NOW + DAY) == kept
    assert fires(timing(kept, made_at=NOW + DAY), 3) == ["2026-11-26 03:01:30"]


def test_an_interval_is_counted_from_its_anchor_its_start_or_when_it_was_made() -> None:
    every = IntervalTrigger(seconds=90)
    assert fires(timing(every), 2) == ["2026-11-26 03:01:30", "2026-11-26 03:03:00"]
    assert fires(timing(every, start_at=NOW + HOUR), 1) == ["2026-11-26 04:00:00"]
    anchored = IntervalTrigger(seconds=90, anchor=NOW - 30 * SECOND)
    assert fires(timing(anchored), 1) == ["2026-11-26 03:01:00"]
    assert fires(timing(anchored, start_at=NOW + HOUR), 1) == ["2026-11-26 04:01:00"]
    ahead = IntervalTrigger(seconds=90, anchor=NOW + DAY)
    assert fires(timing(ahead), 1) == ["2026-11-27 03:00:00"]


def test_an_interval_knows_no_changes_of_the_clock() -> None:
    made_at = datetime(2026, 10, 24, 12, tzinfo=UTC)
    daily = timing(IntervalTrigger(seconds=86_400), made_at=made_at, time_zone="Europe/Berlin")
    assert [it.fire_at for it in daily.preview(made_at, 2)] == [made_at + DAY, made_at + 2 * DAY]


def test_fractions_of_seconds_add_up_exactly() -> None:
    early = timing(IntervalTrigger(seconds=90))
    assert early.between(NOW - DAY, NOW + 90 * SECOND, latest=9).count == 2
    third = timing(IntervalTrigger(seconds=1.000001))
    found = third.between(NOW, NOW + 100_000 * DAY, latest=1)
    assert found.count == 100_000 * 86_400_000_000 // 1_000_001
    assert found.latest[0].fire_at == NOW + found.count * timedelta(microseconds=1_000_001)


def test_start_and_end_are_within() -> None:
    when = cron("*/15 * * * *", start_at=NOW + HOUR, end_at=NOW + 2 * HOUR)
    assert fires(when, 10) == [
        f"2026-11-26 {at}:00" for at in ("04:00", "04:15", "04:30", "04:45", "05:00")
    ]
    assert when.between(NOW, NOW + DAY, latest=2).count == 5
    assert when.next_after(NOW + 2 * HOUR) is None
    assert when.between(NOW + 3 * HOUR, NOW + DAY, latest=2).count == 0


def test_rare_days_are_found() -> None:
    assert fires(cron("0 0 29 2 *"), 3) == [f"{year}-02-29 00:00:00" for year in (2028, 2032, 2036)]
    # 2100 is no leap year.
    after = datetime(2096, 3, 1, tzinfo=UTC)
    assert fires(cron("0 0 29 2 *"), 1, after) == ["2104-02-29 00:00:00"]
    assert fires(cron("0 12 * 2 MON#5"), 2) == ["2044-02-29 12:00:00", "2072-02-29 12:00:00"]
    assert fires(cron("30 6 LW * *"), 2) == ["2026-11-30 06:30:00", "2026-12-31 06:30:00"]
    assert fires(cron("0 */24 * * *"), 2) == ["2026-11-27 00:00:00", "2026-11-28 00:00:00"]


@pytest.mark.parametrize(
    ("short", "first"),
    [
        ("@hourly", "2026-11-26 04:00:00"),
        ("@daily", "2026-11-27 00:00:00"),
        ("@Midnight", "2026-11-27 00:00:00"),
        ("@weekly", "2026-11-29 00:00:00"),
        ("@monthly", "2026-12-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("@annually", "2027-01-01 00:00:00"),
        ("0 9 * * fri", "2026-11-27 09:00:00"),
        ("0 9 * * 7", "2026-11-29 09:00:00"),
        ("0 0 1,15 * MON", "2026-11-30 00:00:00"),
        ("*/25 * * * *", "2026-11-26 03:25:00"),
        ("7 * * * * *", "2026-11-26 03:00:07"),
    ],
)
def test_short_hands_and_names(short: str, first: str) -> None:
    assert fires(cron(short), 1) == [first]


def test_a_calendar_leaves_out_days_of_the_schedules_zone() -> None:
    days = ["2026-11-27", "12-01", {"from": "2026-11-29", "to": "2026-11-30"}]
    assert fires(cron("0 12 * * *", exceptions=days), 4) == [
        f"{day} 12:00:00" for day in ("2026-11-26", "2026-11-28", "2026-12-02", "2026-12-03")
    ]
    # 23:00 in UTC is the next day in Seoul already.
    seoul = cron("0 8 * * *", exceptions=days, time_zone="Asia/Seoul")
    assert fires(seoul, 2) == ["2026-11-27 23:00:00", "2026-12-01 23:00:00"]
    every = timing(IntervalTrigger(seconds=3600), exceptions=days)
    found = every.between(NOW, NOW + 7 * DAY, latest=100)
    assert found.count == 7 * 24 - 4 * 24
    assert list(found.latest) == every.preview(NOW, found.count)
    assert timing(AtTrigger(at=NOW + DAY), exceptions=days).next_after(NOW) is None


def test_a_calendar_may_leave_nothing() -> None:
    halves = [
        {"from": "1970-01-01", "to": "2500-01-01"},
        {"from": "2500-01-01", "to": "2999-12-31"},
    ]
    assert cron("* * * * *", exceptions=halves).next_after(NOW) is None
    assert cron("* * * * *", exceptions=halves).between(NOW, NOW + DAY, latest=3).count == 0
    days = [f"{date(2000, 1, 1) + number * DAY:%m-%d}" for number in range(366)]
    assert timing(IntervalTrigger(seconds=1), exceptions=days).next_after(NOW) is None
    assert cron("0 0 25 12 *", exceptions=["12-25"]).next_after(NOW) is None
    days.remove("02-29")
    assert fires(cron("@daily", exceptions=days), 1) == ["2028-02-29 00:00:00"]


def test_a_row_and_its_calendar_are_read() -> None:
    row = Schedule(
        id="a-schedule",
        trigger={"type": "cron", "expression": "0 9 * * *"},
        time_zone="Europe/Berlin",
        jitter_seconds=30.0,
        created_at=NOW,
    )
    assert fires(timing_of(row, Calendar(name="off", exceptions=["2026-11-26"])), 1) == [
        "2026-11-27 08:00:00"
    ]
    [occurrence] = timing_of(row, None).preview(NOW, 1)
    assert occurrence.fire_at == datetime(2026, 11, 26, 8, tzinfo=UTC)
    assert occurrence.fire_at < occurrence.due_at < occurrence.fire_at + 30 * SECOND


def test_jitter_is_spread_over_its_width_and_stays() -> None:
    delays = [
        found.due_at - found.fire_at
        for number in range(400)
        for found in cron("0 9 * * *", key=f"id-{number}", jitter_seconds=100).preview(NOW, 1)
    ]
    assert all(timedelta(0) <= delay < 100 * SECOND for delay in delays)
    assert 40 * SECOND < sum(delays, timedelta(0)) / len(delays) < 60 * SECOND
    assert len(set(delays)) == 400
    # For ever the same: a firing would come due at another time after an update.
    assert delays[0] == timedelta(seconds=38, microseconds=647_707)


instants = st.integers(-(10**12), 10**12).map(lambda ticks: NOW + ticks * TICK)
steps = st.one_of(
    st.sampled_from([1.0, 7.5, 3600.0, 86_400.0]),
    st.integers(1_000_000, 10**12).map(lambda ticks: ticks / 1_000_000),
)
triggers = st.one_of(
    st.sampled_from(
        ["* * * * *", "*/7 * * * * *", "30 2 * * *", "0 */5 1,15 * MON", "15 10 LW * *"]
    ).map(lambda expression: CronTrigger(expression=expression)),
    st.builds(IntervalTrigger, seconds=steps, anchor=st.none() | instants),
    st.builds(IntervalTrigger, seconds=steps, anchor=st.none() | instants),
    st.builds(AtTrigger, at=instants),
)
exceptions = st.lists(
    st.one_of(
        st.integers(-20, 20).map(lambda days: f"{NOW + days * DAY:%Y-%m-%d}"),
        st.integers(-20, 20).map(lambda days: f"{NOW + days * DAY:%m-%d}"),
        st.tuples(st.integers(-20, 20), st.integers(0, 5)).map(
            lambda it: {
                "from": f"{NOW + it[0] * DAY:%Y-%m-%d}",
                "to": f"{NOW + (it[0] + it[1]) * DAY:%Y-%m-%d}",
            }
        ),
    ),
    max_size=4,
)
timings = st.builds(
    timing,
    triggers,
    time_zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Havana"]),
    start_at=st.none() | st.none() | instants,
    end_at=st.none() | st.none() | instants,
    jitter_seconds=st.sampled_from([0, 0.5, 3600.0]),
    exceptions=exceptions,
)


@given(timings, instants)
@settings(max_examples=150, deadline=None)
def test_following_occurrences_rise_and_keep_their_order(when: Timing, after: datetime) -> None:
    found = when.preview(after, 12)
    assert all(it.fire_at > after for it in found)
    assert all(it.fire_at <= it.due_at for it in found)
    assert all(one.due_at < other.fire_at for one, other in pairwise(found) if when.jitter)
    assert all(one.fire_at < other.fire_at for one, other in pairwise(found))
    for one, other in pairwise(found):
        assert when.next_after(one.fire_at) == other
        assert when.next_after(other.fire_at - TICK) == other
    for it in found:
        assert it.due_at - it.fire_at <= when.jitter
        assert when.start_at is None or it.fire_at >= when.start_at
        assert when.end_at is None or it.fire_at <= when.end_at
        assert when.between(it.fire_at - TICK, it.fire_at, latest=1).latest == (it,)


@given(timings, instants, st.integers(0, 60), st.integers(1, 10))
@settings(max_examples=150, deadline=None)
def test_looking_back_finds_what_looking_ahead_did(
    when: Timing, after: datetime, count: int, latest: int
) -> None:
    found = when.preview(after, count)
    until = found[-1].fire_at if found else after
    missed = when.between(after, until, latest=latest)
    assert missed.count == len(found)
    assert list(missed.latest) == found[-latest:]


@dataclass(frozen=True)
class Counted(Every):
    """An interval that counts how often it is asked."""

    asked: list[str] = field(default_factory=list)

    def after(self, instant: datetime) -> datetime | None:
        self.asked.append("after")
        return super().after(instant)

    def until(self, instant: datetime) -> datetime | None:
        self.asked.append("until")
        return super().until(instant)

    def count(self, after: datetime, until: datetime) -> int:
        self.asked.append("count")
        return super().count(after, until)


def test_days_of_seconds_are_not_gone_through() -> None:
    times = Counted(anchor=NOW, step=SECOND)
    when = Timing(times=times, key="")
    found = when.between(NOW, NOW + 2 * DAY, latest=3)
    assert found.count == 172_800
    assert [it.fire_at for it in found.latest] == [NOW + 2 * DAY - n * SECOND for n in (2, 1, 0)]
    assert len(times.asked) == 4

    # Closed days are left out as a whole, too.
    times.asked.clear()
    closed = ExceptionDays.read([{"from": "2026-11-27", "to": "2027-11-27"}])
    assert Timing(times=times, key="", exceptions=closed).preview(NOW + 20 * HOUR + 59 * MINUTE, 61)
    assert len(times.asked) == 62


def test_a_year_of_a_rhythm_is_counted_by_days() -> None:
    found = cron("* * * * * *", time_zone="Europe/Berlin").between(NOW, NOW + 365 * DAY, latest=2)
    assert found.count == 365 * 86_400
    found = cron("0 30 2 * * *", time_zone="Europe/Berlin").between(NOW, NOW + 365 * DAY, latest=2)
    assert found.count == 365


def test_apscheduler_can_run_them() -> None:
    every = Every(anchor=NOW, step=MINUTE)
    assert every.get_next_fire_time(None, NOW) == NOW
    assert every.get_next_fire_time(NOW, NOW + HOUR) == NOW + MINUTE
    assert Once(NOW).get_next_fire_time(None, NOW) == NOW
    assert Once(NOW).get_next_fire_time(NOW, NOW) is None


def test_exceptions_are_days_and_spans() -> None:
    days = ExceptionDays.read(["2026-12-24", "02-29", {"from": "2026-12-26", "to": "2027-01-06"}])
    assert days
    assert not ExceptionDays.read([])
    assert days.has(date(2026, 12, 24))
    assert not days.has(date(2027, 12, 24))
    assert days.has(date(2028, 2, 29))
    assert days.has(date(2026, 12, 26))
    assert days.has(date(2027, 1, 6))
    assert days.first_open(date(2026, 12, 26)) == date(2027, 1, 7)
    assert days.last_open(date(2027, 1, 6)) == date(2026, 12, 25)
    assert days.first_open(date(2026, 12, 25)) == date(2026, 12, 25)
