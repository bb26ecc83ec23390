"""Schedulers of a test's own on one database and one namespace of Redis, and schedules for them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import select, text

from headrace_common.broker import make_broker
from headrace_common.contracts.schedules import RECOVER_JOBS
from headrace_common.db import Database, Firing, Schedule, SchedulerLeader
from headrace_common.settings import DatabaseSettings, RedisSettings
from headrace_dispatcher.scheduling.leading import AtElection
from headrace_dispatcher.scheduling.process import Scheduler
from headrace_dispatcher.scheduling.settings import SchedulerSettings
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until


@dataclass
class SchedulingBench:
    """What a test does around schedulers."""

    database: Database
    broker: RedisBroker
    database_settings: DatabaseSettings
    redis_settings: RedisSettings
    running: list[Scheduler] = field(default_factory=list)

    def scheduler(self, at_election: Sequence[AtElection] = (), **changes: Any) -> Scheduler:
        """Start a scheduler; keyword arguments change its settings."""
        settings = SchedulerSettings.model_validate(changes)
        scheduler = Scheduler(
            self.database,
            self.broker,
            settings,
            at_election=at_election,
            holder=f"test-{len(self.running)}",
        )
        self.running.append(scheduler)
        scheduler.start()
        return scheduler

    def leader(self) -> Scheduler:
        """Wait until exactly one leads."""
        found = wait_until(
            lambda: [each for each in self.running if each.epoch is not None],
            lambda leaders: len(leaders) == 1,
        )
        return found[0]

    def schedule(self, *, due_in: float = 0, seconds: float = 1, **columns: Any) -> str:
        """Make a schedule that comes every `seconds`, for the first time in `due_in`."""
        schedule_id = f"schedule-{uuid4()}"
        with self.database.begin() as session:
            now = session.scalar(text("SELECT clock_timestamp()"))
            assert isinstance(now, datetime)
            first = now + timedelta(seconds=due_in)
            values: dict[str, Any] = {
                "id": schedule_id,
                "name": schedule_id,
                "trigger": {"type": "interval", "seconds": seconds, "anchor": first.isoformat()},
                "target": RECOVER_JOBS.name,
                "target_key": RECOVER_JOBS.name,
                "overlap": "allow",
                "created_by": "test",
                "changed_by": "test",
                "next_fire_at": first,
                "next_due_at": first,
                "created_at": first - timedelta(hours=1),
            }
            session.add(Schedule(**(values | columns)))
        return schedule_id

    def once(self, *, due_in: float = 0, **columns: Any) -> str:
        """Make a schedule that fires once."""
        with self.database.begin() as session:
            now = session.scalar(text("SELECT clock_timestamp()"))
            assert isinstance(now, datetime)
        at = now + timedelta(seconds=due_in)
        fields: dict[str, Any] = {
            "trigger": {"type": "at", "at": at.isoformat()},
            "next_fire_at": at,
            "next_due_at": at,
        }
        return self.schedule(**(fields | columns))

    def firings(self, schedule_id: str | None = None) -> list[Firing]:
        """Return the firings in the order of their nominal times."""
        query = select(Firing).order_by(Firing.fire_at, Firing.id)
        if schedule_id is not None:
            query = query.where(Firing.schedule_id == schedule_id)
        with self.database.begin() as session:
            return list(session.scalars(query))

    def load(self, schedule_id: str) -> Schedule:
        with self.database.begin() as session:
            return session.get_one(Schedule, schedule_id)

    def term(self) -> SchedulerLeader | None:
        with self.database.begin() as session:
            return session.get(SchedulerLeader, 1)

    def messages(self, queue: str = RECOVER_JOBS.queue) -> Counter[str]:
        """Return how often each message stands in a queue."""
        found: Any = self.broker.client.lrange(f"{self.broker.namespace}:{queue}", 0, -1)
        return Counter(str(message_id, "ascii") for message_id in found)

    def execute(self, statement: str, **parameters: Any) -> None:
        with self.database.begin() as session:
            session.execute(text(statement), parameters)


@contextmanager
def measuring_lateness(bench: SchedulingBench) -> Iterator[Callable[[], float]]:
    """Measure how late anybody is here who only waits and asks the database something.

    A scheduler can be no better than that: what it is late by is held against it.

    Yields:
        What tells the most so far, in seconds.
    """
    over, pause, most = threading.Event(), 0.02, 0.0

    def wait_and_ask() -> None:
        nonlocal most
        began = time.monotonic()
        while not over.wait(pause):
            bench.execute("SELECT 1")
            began, before = time.monotonic(), began
            most = max(most, began - before - pause)

    thread = threading.Thread(target=wait_and_ask)
    thread.start()
    try:
        yield lambda: most
    finally:
        over.set()
        thread.join()


@contextmanager
def scheduling_bench(
    servers: LocalServers, database_settings: DatabaseSettings
) -> Iterator[SchedulingBench]:
    redis_settings = RedisSettings.model_validate(
        {
            "redis_url": servers.redis_url,
            "redis_password": servers.redis_password,
            "dramatiq_namespace": f"test-{uuid4().hex}",
        }
    )
    database = Database(database_settings)
    broker = make_broker(redis_settings)
    bench = SchedulingBench(database, broker, database_settings, redis_settings)
    try:
        yield bench
    finally:
        for scheduler in bench.running:
            scheduler.stop()
        broker.close()
        database.close()


@pytest.fixture
def bench(
    local_servers: LocalServers, fresh_database: DatabaseSettings
) -> Iterator[SchedulingBench]:
    with scheduling_bench(local_servers, fresh_database) as made:
        yield made
