"""Schedules that are changed while the leader fires them: nothing is lost, nothing comes twice."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from schedule_bench import Bench, bench

from headrace_dispatcher.scheduling.firing import fire_due
from headrace_local.waiting import wait_until

__all__ = ["bench"]

pytestmark = pytest.mark.stack

EACH_SECOND = (
    {"type": "cron", "expression": "* * * * * *"},
    {"type": "interval", "seconds": 1, "anchor": "2026-01-01T00:00:00Z"},
)
SECONDS = 2


def test_a_schedule_is_changed_again_and_again_while_it_fires(bench: Bench) -> None:
    bench.post("/calendars", name="holidays")
    bench.create("a", trigger=EACH_SECOND[0], overlap="allow", calendar="holidays")
    first = bench.row("a").next_fire_at
    assert first is not None
    over, changes = threading.Event(), Counter[str]()

    def lead() -> None:
        while not over.is_set():
            with bench.database.begin() as session:
                fire_due(session, epoch=1)

    def change_trigger() -> None:
        while not over.is_set():
            bench.patch("/schedules/a", trigger=EACH_SECOND[changes["trigger"] % 2])
            changes["trigger"] += 1

    def change_calendar() -> None:
        while not over.is_set():
            days = ["2020-02-29"] * (changes["calendar"] % 2)
            bench.put("/calendars/holidays", exceptions=days)
            changes["calendar"] += 1

    with ThreadPoolExecutor() as threads:
        leader = threads.submit(lead)
        changers = [threads.submit(change_trigger), threads.submit(change_calendar)]
        over.wait((first - datetime.now(UTC)).total_seconds() + SECONDS)
        wait_until(lambda: min(changes["trigger"], changes["calendar"]) > SECONDS)
        over.set()
        for thread in (leader, *changers):
            thread.result()
    with bench.database.begin() as session:
        until = fire_due(session, epoch=1).now

    times = Counter(firing.fire_at for firing in bench.firings("a"))
    expected = [
        first + timedelta(seconds=number)
        for number in range(int((until - first).total_seconds()) + 1)
    ]
    assert sorted(times) == expected
    assert set(times.values()) == {1}


def test_one_of_many_makes_a_schedule(bench: Bench) -> None:
    wish = bench.wish("a")
    with ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(lambda _: bench.ask("POST", "/schedules", json=wish).status_code, range(6))
        )
    assert sorted(answers) == [201, *[409] * 5]
