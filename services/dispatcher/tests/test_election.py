"""Who leads: one of any number, and whoever led before changes nothing any more."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scheduling_bench import SchedulingBench, bench
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from headrace_dispatcher.scheduling.election import DeposedError, Election, Term
from headrace_dispatcher.scheduling.firing import fire_due
from headrace_local.waiting import wait_until

__all__ = ["bench"]

_LEASE_SECONDS = 3.0


@contextmanager
def candidate(bench: SchedulingBench, name: str) -> Iterator[Election]:
    election = Election(bench.database, holder=name, lease_seconds=_LEASE_SECONDS)
    try:
        yield election
    finally:
        election.resign()


@pytest.fixture
def former(bench: SchedulingBench) -> Iterator[Election]:
    with candidate(bench, "former") as election:
        yield election


@pytest.fixture
def follower(bench: SchedulingBench) -> Iterator[Election]:
    with candidate(bench, "follower") as election:
        yield election


def elected(election: Election) -> Term:
    term = election.campaign()
    assert term is not None
    return term


def take_over(follower: Election) -> Term:
    """Campaign until it leads."""
    return wait_until(follower.campaign)


def is_locked(bench: SchedulingBench) -> bool:
    """Whether somebody holds the lock of the leader, without trying to."""
    held = text("""
        SELECT EXISTS (
            SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        )
    """)
    with bench.database.begin() as session:
        return bool(session.scalar(held))


def without_time_outs(session: Session) -> None:
    """Switch the server's own belt off, which ends a session that is silent."""
    for name in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        session.execute(text(f"SET {name} = 0"))


def test_one_of_many_leads_and_hands_over_at_once(bench: SchedulingBench) -> None:
    for _ in range(4):
        bench.scheduler()
    first = bench.leader()
    assert first.epoch == 1
    assert first.check().startswith("leads in epoch 1, looked ")
    others = [each for each in bench.running if each is not first]
    wait_until(lambda: {each.check() for each in others}, lambda told: len(told) <= 2)
    assert all(each.check().startswith("stands by") for each in others)

    began = time.monotonic()
    first.stop()
    second = wait_until(lambda: [each for each in others if each.epoch is not None])
    # A second or two; from one that dies without a word they hear after its lease of 15 seconds.
    assert time.monotonic() - began < 10
    assert [each.epoch for each in second] == [2]
    term = bench.term()
    assert term is not None
    assert term.epoch == 2


def test_a_silent_leader_loses_its_connection_to_the_next(
    bench: SchedulingBench, former: Election, follower: Election
) -> None:
    began = time.monotonic()
    old = elected(former)
    with old.begin() as session:
        without_time_outs(session)
    assert follower.campaign() is None
    new = take_over(follower)
    assert time.monotonic() - began > _LEASE_SECONDS
    assert new.epoch == old.epoch + 1
    with pytest.raises(SQLAlchemyError), old.begin():
        pytest.fail("a former leader has a transaction")


def test_a_leader_that_gives_signs_of_life_keeps_its_connection(
    former: Election, follower: Election
) -> None:
    term = elected(former)
    until = time.monotonic() + 1.5 * _LEASE_SECONDS
    while time.monotonic() < until:
        with term.begin() as session:
            term.beat(session)
        assert follower.campaign() is None
        time.sleep(0.1)


def test_the_server_ends_a_silent_leader_by_itself(
    bench: SchedulingBench, former: Election, follower: Election
) -> None:
    old = elected(former)
    assert is_locked(bench)
    # Nobody campaigns meanwhile, who would end it.
    wait_until(lambda: not is_locked(bench))
    assert follower.campaign() is not None
    with pytest.raises(SQLAlchemyError), old.begin():
        pytest.fail("a former leader has a transaction")


@pytest.mark.parametrize("by_server", [False, True])
def test_a_leader_thawed_in_a_transaction_records_nothing(
    bench: SchedulingBench, former: Election, follower: Election, *, by_server: bool
) -> None:
    schedule_id = bench.once()
    old = elected(former)
    if not by_server:
        with old.begin() as session:
            without_time_outs(session)
    began = old.begin()
    session = began.__enter__()
    assert len(fire_due(session, epoch=old.epoch).recorded) == 1
    # Frozen here. The rows that it has locked are free once its connection has ended.
    new = take_over(follower)
    with new.begin() as other:
        assert len(fire_due(other, epoch=new.epoch).recorded) == 1
    with pytest.raises(SQLAlchemyError):
        began.__exit__(None, None, None)
    assert [(it.epoch, it.origin) for it in bench.firings(schedule_id)] == [(2, "schedule")]


def test_a_former_leader_with_its_connection_is_refused_by_the_epoch(
    bench: SchedulingBench, former: Election
) -> None:
    # As where something between handed the lock's connection to somebody else.
    schedule_id = bench.once()
    old = elected(former)
    bench.execute("UPDATE scheduler_leader SET epoch = epoch + 1, holder = 'another'")
    with pytest.raises(DeposedError, match="epoch 1 is over"), old.begin() as session:
        fire_due(session, epoch=old.epoch)
    assert bench.firings(schedule_id) == []
    # And a scheduler steps down, to campaign again.
    former.resign()
    scheduler = bench.scheduler()
    assert wait_until(lambda: scheduler.epoch) == 3
    bench.execute("UPDATE scheduler_leader SET epoch = 10")
    assert wait_until(lambda: scheduler.epoch, lambda epoch: epoch == 11) == 11


def test_the_next_leader_waits_for_a_transaction_that_saw_the_epoch(
    bench: SchedulingBench, former: Election
) -> None:
    old = elected(former)
    with old.begin(), pytest.raises(SQLAlchemyError, match="lock timeout"):
        bench.execute("SET LOCAL lock_timeout = 200; UPDATE scheduler_leader SET epoch = 9")


def test_a_process_that_never_leads(bench: SchedulingBench) -> None:
    never = bench.scheduler(dispatcher_roles="lanes")
    leader = bench.scheduler()
    assert bench.leader() is leader
    assert never.check() == "never leads"
    for check in never.checks():
        check.probe()
