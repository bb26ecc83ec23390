"""Taking up firings, and house-keeping that is performed by an embedded worker."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import REGISTRY
from pydantic import JsonValue
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from headrace_common.broker import make_broker
from headrace_common.contracts.schedules import (
    TIDY_RECORDS,
    TRIM_STREAMS,
    FiringState,
    PerformFiring,
)
from headrace_common.db import Database, Firing, Schedule
from headrace_common.errors import UnavailableError
from headrace_common.firings import Chore, Firings, declare_chores, reason_of
from headrace_common.settings import RedisSettings
from headrace_common.worker import EmbeddedWorker
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

_DEAD_AFTER_SECONDS = 60.0


@dataclass
class Bench:
    database: Database
    broker: RedisBroker
    firings: Firings
    workers: list[EmbeddedWorker] = field(default_factory=list)

    def firing(self, state: FiringState = FiringState.SENT, **fields: Any) -> int:
        now = datetime.now(UTC)
        with self.database.begin() as session:
            schedule = Schedule(
                id=str(uuid4()),
                name=f"s-{uuid4()}",
                trigger={"type": "interval", "seconds": 60},
                target=TIDY_RECORDS.name,
                target_key=TIDY_RECORDS.name,
                created_by="test",
                changed_by="test",
            )
            session.add(schedule)
            session.flush()
            row = Firing(
                schedule_id=schedule.id,
                fire_at=now,
                due_at=now,
                origin="schedule",
                epoch=1,
                target=TIDY_RECORDS.name,
                target_key=TIDY_RECORDS.name,
                overlap="skip",
                state=state,
                **fields,
            )
            session.add(row)
            session.flush()
            return row.id

    def load(self, firing_id: int) -> Firing:
        with self.database.begin() as session:
            return session.get_one(Firing, firing_id)

    def state(self, firing_id: int) -> str:
        return self.load(firing_id).state

    def run(self, chore: Chore) -> None:
        """Run a worker that performs `chore`."""
        queues = declare_chores(self.broker, self.firings, {TIDY_RECORDS: chore})
        assert queues == {TIDY_RECORDS.queue}
        worker = EmbeddedWorker(self.broker, queues=queues, threads=2)
        worker.start()
        self.workers.append(worker)

    def send(self, firing_id: int) -> None:
        message: Message[None] = Message(
            queue_name=TIDY_RECORDS.queue,
            actor_name=TIDY_RECORDS.actor,
            args=(),
            kwargs=PerformFiring(firing_id=firing_id).model_dump(),
            options={},
        )
        self.broker.enqueue(message)

    def held(self) -> int:
        """Return how many messages Redis holds for the queue, and for its retries."""
        keys = [f"{self.broker.namespace}:{TIDY_RECORDS.queue}{end}" for end in ("", ".DQ")]
        return sum(self.broker.client.hlen(f"{key}.msgs") for key in keys)


def performed(outcome: str) -> float:
    """Return what this process has counted."""
    labels = {"target": TIDY_RECORDS.name, "outcome": outcome}
    return REGISTRY.get_sample_value("headrace_firings_performed_total", labels) or 0


@pytest.fixture
def bench(database: Database, local_servers: LocalServers) -> Iterator[Bench]:
    settings = RedisSettings.model_validate(
        {
            "redis_url": local_servers.redis_url,
            "redis_password": local_servers.redis_password,
            "dramatiq_namespace": f"test-{uuid4().hex}",
        }
    )
    broker = make_broker(settings)
    made = Bench(database, broker, Firings(database, dead_after_seconds=_DEAD_AFTER_SECONDS))
    yield made
    for worker in made.workers:
        worker.stop(grace_seconds=2)
    broker.flush_all()
    broker.close()


def test_only_a_firing_that_nobody_has_taken_up_is_taken_up(bench: Bench) -> None:
    for state in FiringState:
        finished = datetime.now(UTC) if state.is_final else None
        started = datetime.now(UTC) if state is FiringState.RUNNING else None
        firing_id = bench.firing(state, finished_at=finished, started_at=started)
        is_taken = bench.firings.begin(firing_id)
        assert is_taken == (state in {FiringState.PENDING, FiringState.SENT}), state
        row = bench.load(firing_id)
        assert row.state == (FiringState.RUNNING if is_taken else state)
        assert row.finished_at == finished


def test_a_firing_whose_schedule_was_deleted_is_nothing_to_perform(bench: Bench) -> None:
    assert not bench.firings.begin(123_456_789)
    assert not bench.firings.finish(123_456_789, state=FiringState.SUCCEEDED)


def test_of_eight_at_once_one_takes_a_firing_up(bench: Bench) -> None:
    firing_id, barrier = bench.firing(), threading.Barrier(8)
    taken: list[bool] = []

    def take() -> None:
        barrier.wait()
        taken.append(bench.firings.begin(firing_id))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


def test_what_a_dead_worker_had_in_hand_is_taken_up_by_another(bench: Bench) -> None:
    firing_id = bench.firing()
    assert bench.firings.begin(firing_id)
    assert not bench.firings.begin(firing_id), "its worker lives, for all that is known"

    ago = func.clock_timestamp() - timedelta(seconds=_DEAD_AFTER_SECONDS + 1)
    with bench.database.begin() as session:
        session.execute(update(Firing).where(Firing.id == firing_id).values(started_at=ago))
    assert bench.firings.begin(firing_id)
    assert not bench.firings.begin(firing_id), "the other has it for as long"

    with bench.database.begin() as session:
        values = {"started_at": ago, "job_id": "job-1"}
        session.execute(update(Firing).where(Firing.id == firing_id).values(values))
    assert not bench.firings.begin(firing_id), "its job is there already, and ends it"


def test_the_first_end_counts(bench: Bench) -> None:
    firing_id = bench.firing()
    assert not bench.firings.finish(firing_id, state=FiringState.SUCCEEDED), "nobody took it up"
    assert bench.firings.begin(firing_id)
    result: Mapping[str, JsonValue] = {"removed": 3}
    assert bench.firings.finish(firing_id, state=FiringState.SUCCEEDED, result=result)
    assert not bench.firings.finish(firing_id, state=FiringState.FAILED, reason="late")
    row = bench.load(firing_id)
    assert (row.state, row.reason, row.result) == ("succeeded", None, {"removed": 3})
    assert row.started_at is not None
    assert row.finished_at is not None
    assert row.started_at <= row.finished_at


def test_a_chore_runs_once_however_often_its_message_comes(bench: Bench) -> None:
    firing_id, runs, may_end = bench.firing(), [], threading.Event()
    dropped = performed("dropped")

    def chore() -> Mapping[str, JsonValue]:
        runs.append(1)
        assert may_end.wait(60)
        return {"removed": len(runs)}

    bench.run(chore)
    bench.send(firing_id)
    wait_until(lambda: len(runs) == 1)
    bench.send(firing_id)
    wait_until(lambda: bench.held() == 1)
    may_end.set()
    wait_until(lambda: bench.state(firing_id) == "succeeded")
    bench.send(firing_id)
    wait_until(lambda: bench.held() == 0)
    assert bench.load(firing_id).result == {"removed": 1}
    assert performed("dropped") - dropped == 2


def test_a_chore_that_fails_says_why_in_one_line(bench: Bench) -> None:
    firing_id = bench.firing()

    def chore() -> Mapping[str, JsonValue]:
        raise ValueError("no such bucket\nat https://me:secret@host/bucket")

    bench.run(chore)
    bench.send(firing_id)
    wait_until(lambda: bench.state(firing_id) == "failed")
    assert bench.load(firing_id).reason == "ValueError: no such bucket"
    with bench.database.begin() as session:
        has_no_result = select(Firing.result.is_(None)).where(Firing.id == firing_id)
        assert session.scalar(has_no_result), "SQL's null, which IS NULL finds"
    wait_until(lambda: bench.held() == 0)
    dead = f"{bench.broker.namespace}:{TIDY_RECORDS.queue}.XQ"
    assert bench.broker.client.zcard(dead) == 0, "the row says it; nobody has to decide about it"


def test_a_chore_that_found_the_database_away_is_tried_again(bench: Bench) -> None:
    firing_id, runs = bench.firing(), []

    def chore() -> Mapping[str, JsonValue]:
        runs.append(1)
        if len(runs) == 1:
            raise OperationalError("SELECT 1", {}, ConnectionError("gone"))
        return {}

    bench.run(chore)
    bench.send(firing_id)
    wait_until(lambda: bench.state(firing_id) == "succeeded")
    assert len(runs) == 2


def test_the_contracts_of_one_queue_share_it(bench: Bench) -> None:
    queues = declare_chores(bench.broker, bench.firings, {TIDY_RECORDS: dict, TRIM_STREAMS: dict})
    assert queues == {TIDY_RECORDS.queue, TRIM_STREAMS.queue}
    assert {TIDY_RECORDS.actor, TRIM_STREAMS.actor} <= bench.broker.get_declared_actors()


def test_reasons_are_readable_and_tell_no_secrets() -> None:
    assert reason_of(UnavailableError("S3 is away")) == "S3 is away"
    assert reason_of(RuntimeError()) == "RuntimeError"
    assert "secret" not in reason_of(RuntimeError("https://me:secret@host/a is away"))
    assert len(reason_of(RuntimeError("x" * 5_000))) == 500
