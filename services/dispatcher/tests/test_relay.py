"""From the row of a firing to its end: whatever is locked, away or unknown meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel
from scheduling_bench import SchedulingBench, bench
from sqlalchemy import select

from headrace_common.broker import QueueUnavailableError
from headrace_common.contracts.schedules import (
    FIRINGS_QUEUE,
    PREPROCESS,
    TargetContract,
    target_contracts,
)
from headrace_common.db import Firing, TargetLimit
from headrace_dispatcher.scheduling import relay, settling
from headrace_dispatcher.scheduling.election import DeposedError
from headrace_dispatcher.scheduling.posting import PostOffice
from headrace_dispatcher.scheduling.relay import Relay
from headrace_local.waiting import wait_until

__all__ = ["bench"]


def states(bench: SchedulingBench, schedule_id: str) -> list[tuple[str, str | None]]:
    return [(firing.state, firing.reason) for firing in bench.firings(schedule_id)]


def wait_for_tries(bench: SchedulingBench, schedule_id: str, tries: int) -> Firing:
    found = wait_until(
        lambda: bench.firings(schedule_id), lambda seen: [it.tries for it in seen] == [tries]
    )
    return found[0]


def limit(bench: SchedulingBench, target: str, most: int) -> None:
    with bench.database.begin() as session:
        session.add(TargetLimit(target=target, max_running=most, changed_by="test"))


def look(bench: SchedulingBench, camera: str, **columns: Any) -> str:
    make = bench.schedule if "seconds" in columns else bench.once
    return make(target=PREPROCESS.name, target_key=f"camera:{camera}", **columns)


@contextmanager
def locking(bench: SchedulingBench, schedule_id: str) -> Iterator[None]:
    """Keep the firing of a schedule locked, as who performs it does, and may be frozen so."""
    with bench.database.begin() as session:
        query = select(Firing).where(Firing.schedule_id == schedule_id)
        session.scalars(query.with_for_update()).one()
        yield


def test_a_firing_that_somebody_has_locked_holds_up_no_other(bench: SchedulingBench) -> None:
    steady, held = bench.schedule(), look(bench, "a")
    limit(bench, PREPROCESS.name, 0)
    # Nothing may wait for long: the statements of this leader end after two seconds.
    bench.scheduler(scheduler_lease_seconds=4)
    wait_until(lambda: states(bench, held), lambda seen: seen == [("pending", "limit")])
    with locking(bench, held):
        bench.execute("DELETE FROM target_limits")
        count = len(bench.firings(steady))
        wait_until(lambda: len(bench.firings(steady)) >= count + 4)
        assert states(bench, held) == [("pending", "limit")], "sent, and to be noted"
        assert sum(bench.messages(FIRINGS_QUEUE).values()) == 1
        # Whom it waits for counts for limits.
        limit(bench, PREPROCESS.name, 1)
        waits = look(bench, "b")
        wait_until(lambda: states(bench, waits), lambda seen: seen == [("pending", "limit")])
    assert wait_for_tries(bench, held, 1).state == "sent"
    assert states(bench, waits) == [("pending", "limit")]
    assert sum(bench.messages(FIRINGS_QUEUE).values()) == 1
    assert bench.leader().epoch == 1


def test_what_ends_the_last_one_needs_no_place_of_its_own(bench: SchedulingBench) -> None:
    limit(bench, PREPROCESS.name, 1)
    bench.scheduler()
    ends = look(bench, "a", overlap="cancel", seconds=1)
    wait_until(lambda: states(bench, ends)[:1], lambda seen: seen == [("sent", None)])
    other = look(bench, "b", overlap="cancel")
    wait_until(lambda: states(bench, ends)[:3], lambda seen: seen == [("sent", None)] * 3)
    # Of another schedule: it ends nothing of these.
    wait_until(lambda: states(bench, other), lambda seen: seen == [("pending", "limit")])
    # House-keeping is not interrupted, so that the next one waits for it.
    bench.execute("UPDATE firings SET state = 'running', started_at = now() WHERE state = 'sent'")
    wait_until(lambda: states(bench, ends)[-1], lambda last: last == ("pending", "limit"))


def test_settling_leaves_what_is_locked_for_later(bench: SchedulingBench) -> None:
    locked, free = bench.once(), bench.once()
    bench.scheduler(firing_timeout_seconds=1, firing_lost_after_seconds=0.3)
    for each in (locked, free):
        wait_for_tries(bench, each, 1)
    bench.execute("UPDATE firings SET state = 'running', started_at = now(), tries = 3")
    timed_out = [("failed", "timed_out")]
    with locking(bench, locked):
        wait_until(lambda: states(bench, free), lambda seen: seen == timed_out)
        assert states(bench, locked) == [("running", None)]
    wait_until(lambda: states(bench, locked), lambda seen: seen == timed_out)
    assert bench.leader().epoch == 1


def test_many_are_settled_some_at_a_time(
    bench: SchedulingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_MOST_ROWS", 1)
    ids = [bench.once() for _ in range(3)]
    bench.scheduler(firing_lost_after_seconds=0.3)
    for each in ids:
        wait_for_tries(bench, each, 1)
    bench.execute("UPDATE firings SET state = 'running', job_id = 'purged' WHERE state = 'sent'")
    gone = ("failed", "job_gone")
    wait_until(lambda: [states(bench, each) for each in ids], lambda seen: seen == [[gone]] * 3)


def test_what_was_sent_ends_once_nobody_knows_its_target(bench: SchedulingBench) -> None:
    gone = bench.once()
    bench.scheduler(firing_lost_after_seconds=0.3, firing_timeout_seconds=3)
    wait_for_tries(bench, gone, 1)
    bench.execute("UPDATE firings SET target = 'of.before'")
    assert states(bench, gone) == [("sent", None)]
    wait_until(lambda: states(bench, gone), lambda seen: seen == [("failed", "target_unknown")])


def test_a_redis_that_is_away_is_asked_once_a_round(
    bench: SchedulingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_BATCH", 2)
    posts: list[float] = []

    def away(self: PostOffice, *_: object, **__: object) -> None:
        posts.append(time.monotonic())
        raise QueueUnavailableError("away")

    monkeypatch.setattr(PostOffice, "post", away)
    for _ in range(5):
        bench.once()
    bench.scheduler()
    wait_until(lambda: len(posts) >= 3)
    gaps = [after - before for before, after in pairwise(posts[1:3])]
    assert min(gaps) > 0.1, "there are more than one batch, and Redis is still away"


class Words(BaseModel):
    text: str


def test_what_is_not_tracked_is_sent_once_though_nobody_noted_it(
    bench: SchedulingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = TargetContract(
        name="mail", summary="", params=Words, queue="mails", actor="send", tracked=False
    )
    contracts = dict(target_contracts()) | {"mail": mail}
    monkeypatch.setattr(relay, "target_contracts", lambda: contracts)
    firing = bench.once(target="mail", target_key="mail", params={"text": "hello"})
    with monkeypatch.context() as killed:
        killed.setattr(Relay, "_take", _die)
        first = bench.scheduler()
        wait_until(lambda: sum(bench.messages("mails").values()) == 1)
        first.stop()
    assert states(bench, firing) == [("pending", None)]
    # Long after that, an hour or two: the mark is kept for longer.
    [mark] = bench.broker.client.keys(f"{bench.broker.namespace}:fired:*")
    assert bench.broker.client.ttl(mark) > 2 * 3600
    bench.scheduler()
    wait_until(lambda: states(bench, firing), lambda seen: seen == [("succeeded", None)])
    assert sum(bench.messages("mails").values()) == 1


def _die(*_: object) -> None:
    raise DeposedError("killed between the sending and its note")
