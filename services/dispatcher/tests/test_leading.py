"""The leader's work: what is due fires once, on time, and its message is sent once."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from dramatiq import Message
from prometheus_client import REGISTRY
from pydantic import BaseModel
from scheduling_bench import SchedulingBench, bench, measuring_lateness
from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_common.broker import make_broker
from headrace_common.contracts.schedules import (
    RECOVER_JOBS,
    FiringState,
    TargetContract,
    target_contracts,
)
from headrace_common.db import Firing, Job, Schedule, TargetLimit
from headrace_common.settings import RedisSettings
from headrace_dispatcher.scheduling import firing, relay
from headrace_dispatcher.scheduling.clockwork import Clockwork
from headrace_dispatcher.scheduling.limits import Slots
from headrace_dispatcher.scheduling.measuring import SchedulerState, scheduler_state
from headrace_dispatcher.scheduling.plan import Plan, plan_firings
from headrace_dispatcher.scheduling.posting import Letter, Posted, PostOffice
from headrace_dispatcher.scheduling.process import Scheduler
from headrace_dispatcher.scheduling.settings import SchedulerSettings
from headrace_local.ports import reserve_port
from headrace_local.waiting import wait_until

__all__ = ["bench"]


def timer_faults() -> float:
    return sum(
        REGISTRY.get_sample_value("headrace_scheduler_timer_faults_total", {"event": event}) or 0
        for event in ("missed", "max_instances", "error")
    )


def states(bench: SchedulingBench, schedule_id: str) -> list[tuple[str, str | None]]:
    return [(firing.state, firing.reason) for firing in bench.firings(schedule_id)]


def wait_for_tries(bench: SchedulingBench, schedule_id: str, tries: int) -> Firing:
    found = wait_until(
        lambda: bench.firings(schedule_id), lambda seen: [it.tries for it in seen] == [tries]
    )
    return found[0]


def test_what_is_due_fires_once_and_on_time(bench: SchedulingBench) -> None:
    faults = timer_faults()
    schedule_id, once = bench.schedule(due_in=1.5), bench.once(due_in=1.2)
    with measuring_lateness(bench) as lateness:
        for _ in range(3):
            bench.scheduler()
        bench.leader()
        firings = wait_until(lambda: bench.firings(schedule_id), lambda found: len(found) >= 3)
        late = lateness()
    assert {(b.fire_at - a.fire_at).total_seconds() for a, b in pairwise(firings)} == {1.0}
    drift = sorted((it.fired_at - it.due_at).total_seconds() for it in firings)
    assert drift[0] >= 0
    assert drift[1] < 0.3 + late  # milliseconds, where nothing else runs
    assert [it.epoch for it in bench.firings(once)] == [1]
    assert bench.load(once).next_due_at is None
    sent = wait_until(lambda: bench.firings(once)[0], lambda it: it.state == "sent")
    assert (sent.tries, sent.reason) == (1, None)
    assert bench.messages()[sent.message_id or ""] == 1
    assert set(bench.messages().values()) == {1}
    assert timer_faults() == faults

    def look() -> SchedulerState:
        with bench.database.begin() as session:
            return scheduler_state(session)

    # One that was recorded just now is not sent yet.
    state = wait_until(look, lambda seen: seen.backlog.pending == 0)
    assert state.leader is not None
    assert state.leader.epoch == 1
    assert state.drift.firings >= 3
    assert state.drift.p50 is not None


def test_each_misfire_policy_after_minutes_without_a_leader(bench: SchedulingBench) -> None:
    ids = {
        policy: bench.schedule(
            due_in=-721,
            misfire=policy,
            misfire_grace_seconds=58,
            misfire_limit=5,
            seconds=60,
        )
        for policy in ("once", "all", "skip")
    }
    bench.scheduler()

    def summary(policy: str) -> list[tuple[str, bool, int]]:
        return [
            (it.origin, it.state == FiringState.SKIPPED, it.missed)
            for it in bench.firings(ids[policy])
            if it.origin == "misfire"
        ]

    # Twelve and the first; the last of them is within the grace, and fires as usual.
    wait_until(lambda: all(bench.firings(each) for each in ids.values()))
    assert summary("once") == [("misfire", False, 11)]
    assert summary("skip") == [("misfire", True, 11)]
    assert summary("all") == [("misfire", True, 6), *[("misfire", False, 0)] * 5]
    for schedule_id in ids.values():
        assert [it.origin for it in bench.firings(schedule_id)].count("schedule") >= 1
        assert bench.load(schedule_id).next_fire_at is not None


def test_schedules_fire_even_where_a_deed_of_the_election_fails(bench: SchedulingBench) -> None:
    schedule_id = bench.once()

    def fail(session: Session) -> None:
        session.execute(text("SELECT 1 / 0"))

    done: list[str] = []
    deeds = [fail, lambda session: done.append(str(session.scalar(text("SELECT 'done'"))))]
    bench.scheduler(deeds)
    wait_until(lambda: bench.firings(schedule_id))
    assert (bench.leader().epoch, done) == (1, ["done"])


def test_neither_a_broken_nor_a_locked_schedule_holds_up_the_others(
    bench: SchedulingBench,
) -> None:
    broken = bench.once(trigger={"type": "moon"})
    odd = bench.once(next_fire_at=None)
    locked, fine = bench.once(), bench.once()
    with bench.database.begin() as session:
        session.get_one(Schedule, locked, with_for_update=True)
        bench.scheduler()
        wait_until(lambda: bench.firings(fine))
        assert bench.firings(locked) == []
    wait_until(lambda: bench.firings(locked))
    for each in (broken, odd):
        row = bench.load(each)
        assert (row.paused, row.next_due_at, bench.firings(each)) == (True, None, [])
        assert "its row makes no sense" in (row.paused_reason or "")


def test_a_schedule_that_is_paused_or_moved_does_not_fire(bench: SchedulingBench) -> None:
    bench.scheduler()
    bench.leader()
    paused, moved, witness = (bench.once(due_in=4) for _ in range(3))
    bench.execute(
        "UPDATE schedules SET paused = true, next_fire_at = NULL, next_due_at = NULL WHERE id=:id",
        id=paused,
    )
    bench.execute(
        "UPDATE schedules SET next_fire_at = next_fire_at + interval '1 h', "
        "next_due_at = next_due_at + interval '1 h' WHERE id = :id",
        id=moved,
    )
    wait_until(lambda: bench.firings(witness))
    assert (bench.firings(paused), bench.firings(moved)) == ([], [])


def test_a_firing_is_skipped_while_the_last_one_is_open(bench: SchedulingBench) -> None:
    schedule_id = bench.schedule(overlap="skip")
    bench.scheduler()
    found = wait_until(lambda: states(bench, schedule_id), lambda seen: len(seen) >= 2)
    assert found[0][0] in {"pending", "sent"}
    assert found[1] == ("skipped", "overlap")
    assert bench.firings(schedule_id)[1].finished_at is not None
    bench.execute(
        "UPDATE firings SET state = 'succeeded', finished_at = now() WHERE id = "
        "(SELECT min(id) FROM firings)"
    )
    wait_until(
        lambda: [state for state, _ in states(bench, schedule_id)][2:], lambda s: "sent" in s
    )


def test_limits_hold_firings_back_and_nobody_else(bench: SchedulingBench) -> None:
    with bench.database.begin() as session:
        session.add(TargetLimit(target="camera:a", max_running=2, changed_by="test"))
    held = [bench.once(target_key="camera:a") for _ in range(4)]
    free = bench.once(target_key="camera:b")
    bench.scheduler()

    def of_a() -> list[str]:
        return sorted(state for each in held for state, _ in states(bench, each))

    wait_until(of_a, lambda found: found == ["pending", "pending", "sent", "sent"])
    wait_until(lambda: states(bench, free), lambda found: found == [("sent", None)])
    waiting = [each for each in held if states(bench, each)[0][0] == "pending"]
    assert {states(bench, each)[0] for each in waiting} == {("pending", "limit")}
    done = next(each for each in held if each not in waiting)
    bench.execute(
        "UPDATE firings SET state = 'succeeded', finished_at = now() WHERE schedule_id = :id",
        id=done,
    )
    wait_until(of_a, lambda found: found == ["pending", "sent", "sent", "succeeded"])


def test_much_that_takes_long_to_plan_does_not_silence_the_leader(
    bench: SchedulingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_slowly(*args: Any, **how: Any) -> Plan:
        time.sleep(0.06)
        return plan_firings(*args, **how)

    monkeypatch.setattr(firing, "plan_firings", plan_slowly)
    for _ in range(80):
        bench.once()
    # More than four seconds of planning, which is as long as a leader of this lease may be silent.
    bench.scheduler(scheduler_lease_seconds=4)
    wait_until(lambda: len(bench.firings()) == 80)
    term = bench.term()
    assert term is not None
    assert term.epoch == 1


def test_slots() -> None:
    slots = Slots({"t": 2, "k:1": 1, "k:2": 0}, [("t", "k:9", 1)])
    assert slots.full() == ["k:2"]
    assert not slots.take("t", "k:2")
    assert slots.take("other", "k:1")
    assert not slots.take("t", "k:1")
    assert slots.take("t", "t")
    assert not slots.take("t", "k:3")
    assert slots.full() == ["k:1", "k:2", "t"]
    assert slots.take("other", "k:3")


def test_without_redis_schedules_fire_and_their_messages_follow(bench: SchedulingBench) -> None:
    schedule_id = bench.schedule(due_in=0.5)
    nowhere = RedisSettings.model_validate({"redis_url": f"redis://127.0.0.1:{reserve_port()}/0"})
    cut_off = Scheduler(
        bench.database, make_broker(nowhere), SchedulerSettings(), holder="without redis"
    )
    cut_off.start()
    try:
        wait_until(lambda: states(bench, schedule_id), lambda found: len(found) >= 2)
        assert {state for state, _ in states(bench, schedule_id)} == {"pending"}
    finally:
        cut_off.stop()
    bench.scheduler()
    wait_until(lambda: states(bench, schedule_id)[:2], lambda s: s == [("sent", None)] * 2)
    assert set(bench.messages().values()) == {1}


def test_a_lost_message_is_sent_again_and_one_that_waits_is_not(bench: SchedulingBench) -> None:
    lost, waits = bench.once(), bench.once()
    bench.scheduler(firing_lost_after_seconds=0.5)
    wait_until(
        lambda: states(bench, lost) + states(bench, waits), lambda it: it == [("sent", None)] * 2
    )
    first = bench.firings(lost)[0].message_id or ""
    client, key = bench.broker.client, f"{bench.broker.namespace}:{RECOVER_JOBS.queue}"
    client.hdel(f"{key}.msgs", first)
    client.lrem(key, 0, first)
    again = wait_for_tries(bench, lost, 2)
    assert again.message_id != first
    assert bench.messages()[again.message_id or ""] == 1
    assert bench.firings(waits)[0].tries == 1


def test_house_keeping_without_an_end_is_begun_anew_and_given_up(bench: SchedulingBench) -> None:
    schedule_id = bench.once()
    bench.scheduler(firing_timeout_seconds=0.3, firing_lost_after_seconds=0.3)
    for tries in (1, 2, 3):
        wait_for_tries(bench, schedule_id, tries)
        bench.execute("UPDATE firings SET state = 'running', started_at = now()")
    wait_until(lambda: states(bench, schedule_id), lambda it: it == [("failed", "timed_out")])


def test_a_firing_ends_as_its_job_does(bench: SchedulingBench) -> None:
    ids = {status: bench.once() for status in ("completed", "failed", "cancelled", "gone", "run 2")}
    bench.scheduler(firing_lost_after_seconds=0.3)
    for status, schedule_id in ids.items():
        wait_for_tries(bench, schedule_id, 1)
        with bench.database.begin() as session:
            firing = session.get_one(Firing, bench.firings(schedule_id)[0].id)
            firing.state, firing.job_id = "running", f"job-{uuid4()}"
            firing.job_run = 2 if status == "run 2" else 1
            if status == "gone":
                continue
            session.add(
                Job(
                    id=firing.job_id,
                    kind="audio_analysis",
                    status="completed" if status == "run 2" else status,
                    progress=100,
                    message="",
                    lane="normal",
                    error_code="bad_audio" if status == "failed" else None,
                    error_message="silence" if status == "failed" else None,
                    finished_at=datetime.now(UTC),
                )
            )
    expected = {
        "completed": ("succeeded", None),
        "failed": ("failed", "bad_audio: silence"),
        "cancelled": ("cancelled", None),
        "gone": ("failed", "job_gone"),
        # That end was the run's before.
        "run 2": ("running", None),
    }
    wait_until(
        lambda: {status: states(bench, each)[0] for status, each in ids.items()},
        lambda found: found == expected,
    )


class Words(BaseModel):
    text: str


def test_an_untracked_target_gets_its_parameters(
    bench: SchedulingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = TargetContract(
        name="mail", summary="", params=Words, queue="mails", actor="send", tracked=False
    )
    contracts = dict(target_contracts()) | {"mail": mail}
    monkeypatch.setattr(relay, "target_contracts", lambda: contracts)
    schedule_id = bench.once(target="mail", target_key="mail", params={"text": "hello"})
    unknown = bench.once(target="of another version")
    bench.scheduler(firing_lost_after_seconds=0.3)
    wait_until(lambda: states(bench, schedule_id), lambda it: it == [("succeeded", None)])
    firing = bench.firings(schedule_id)[0]
    raw = bench.broker.client.hget(f"{bench.broker.namespace}:mails.msgs", firing.message_id or "")
    assert isinstance(raw, bytes)
    message = Message.decode(raw)
    assert (message.actor_name, message.kwargs) == ("send", {"text": "hello"})
    assert message.options["firing_id"] == firing.id
    assert message.options["fire_at"] == firing.fire_at.isoformat()
    assert message.options["trace"] == firing.trace
    wait_until(lambda: states(bench, unknown), lambda it: it == [("pending", "target_unknown")])


def letter(firing_id: int, *, tries: int = 0) -> Letter:
    return Letter(
        firing_id=firing_id,
        schedule_id="s",
        fire_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=firing_id),
        target=RECOVER_JOBS.name,
        target_key=RECOVER_JOBS.name,
        tries=tries,
        queue=RECOVER_JOBS.queue,
        actor=RECOVER_JOBS.actor,
        is_tracked=True,
        kwargs={"firing_id": firing_id},
    )


def test_a_message_is_posted_once_and_by_the_present_leader_only(bench: SchedulingBench) -> None:
    office = PostOffice(bench.broker)
    office.open(7)
    assert office.post([letter(1), letter(2)], epoch=7) == [Posted.SENT, Posted.SENT]
    assert office.post([letter(2), letter(3)], epoch=8) == [Posted.ALREADY, Posted.SENT]
    # Thawed: its term was the seventh.
    assert office.post([letter(3), letter(4)], epoch=7) == [Posted.DEPOSED, Posted.DEPOSED]
    assert office.post([letter(2, tries=1)], epoch=8) == [Posted.SENT]
    assert sorted(bench.messages().values()) == [1, 1, 1, 1]
    # The database was replaced by one whose terms are fewer.
    office.open(2)
    assert office.post([letter(4)], epoch=2) == [Posted.SENT]


def test_redis_may_know_the_epochs_of_another_database(bench: SchedulingBench) -> None:
    schedule_id = bench.schedule()
    bench.scheduler()
    wait_until(lambda: states(bench, schedule_id), lambda seen: ("sent", None) in seen)
    PostOffice(bench.broker).open(1_000)
    count = len(states(bench, schedule_id))
    wait_until(
        lambda: states(bench, schedule_id), lambda seen: seen[count:][:1] == [("sent", None)]
    )


@pytest.mark.parametrize("off_seconds", [-300, 0, 300])
def test_a_clock_that_is_wrong_rings_neither_early_nor_late(off_seconds: int) -> None:
    wrong = timedelta(seconds=off_seconds)
    with Clockwork() as clockwork:
        # This process's clock is right: it is the database's that differs, which is the same.
        due_at = datetime.now(UTC) + wrong + timedelta(seconds=0.4)
        clockwork.tell_time(datetime.now(UTC) + wrong, datetime.now(UTC))
        clockwork.set({"a": due_at})
        assert clockwork.wait(timeout_seconds=60) == {"a": due_at}
        late = (datetime.now(UTC) + wrong - due_at).total_seconds()
        assert 0 <= late < 60, "and not by the 300 seconds"
        assert clockwork.wait(timeout_seconds=0) == {}


@pytest.mark.parametrize("jump_seconds", [-300, 300])
def test_a_leader_whose_clock_jumps_fires_neither_early_nor_late(
    bench: SchedulingBench, monkeypatch: pytest.MonkeyPatch, jump_seconds: int
) -> None:
    tell, told = Clockwork.tell_time, list[datetime]()

    def tell_before_the_jump(self: Clockwork, database_now: datetime, own_now: datetime) -> None:
        jump = timedelta(seconds=0 if told else jump_seconds)
        told.append(database_now)
        tell(self, database_now, own_now - jump)

    monkeypatch.setattr(Clockwork, "tell_time", tell_before_the_jump)
    schedule_id, began = bench.once(due_in=2), time.monotonic()
    with measuring_lateness(bench) as lateness:
        bench.scheduler()
        firing = wait_until(lambda: bench.firings(schedule_id))[0]
        late = lateness()
    assert 0 <= (firing.fired_at - firing.due_at).total_seconds() < 0.5 + late
    assert len(told) < 5 * (time.monotonic() - began), "it does not ask for the time all the time"


def test_alarms_are_corrected_when_the_clock_jumps() -> None:
    with Clockwork() as clockwork:
        now = datetime.now(UTC)
        clockwork.tell_time(now, now)
        clockwork.set({"a": now + timedelta(seconds=300)})
        # The database's clock shows five minutes later than it did a moment ago.
        clockwork.tell_time(now + timedelta(seconds=299.9), now)
        assert list(clockwork.wait(timeout_seconds=60)) == ["a"]
