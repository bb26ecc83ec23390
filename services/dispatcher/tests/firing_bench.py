"""Schedules and firings of a test's own, and what performs them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker

from headrace_common.broker import make_broker
from headrace_common.contracts.cctv import CANCELLED_SUFFIX, PreprocessEntry
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.schedules import (
    FIRINGS_QUEUE,
    PREPROCESS,
    REANALYSE,
    FiringState,
    OverlapPolicy,
    PerformFiring,
    TargetContract,
)
from headrace_common.db import Camera, Database, Firing, Job, Schedule
from headrace_common.firings import Firings
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import RedisSettings
from headrace_dispatcher.scheduling.performing import Performing
from headrace_local.pytest_plugin import LocalServers

#: So soon a worker that is silent counts as dead.
DEAD_AFTER_SECONDS = 1
_TO_ITS_END = (JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.COMPLETED)


@pytest.fixture
def redis_values(local_servers: LocalServers) -> dict[str, Any]:
    """Settings of a Redis name space that no other test sees."""
    return {
        "redis_url": local_servers.redis_url,
        "redis_password": local_servers.redis_password,
        "dramatiq_namespace": f"test-{uuid4().hex}",
        "dramatiq_heartbeat_timeout_seconds": DEAD_AFTER_SECONDS,
    }


@pytest.fixture
def firing_bench(database: Database, redis_values: dict[str, Any]) -> "Iterator[FiringBench]":
    settings = RedisSettings.model_validate(redis_values)
    made = FiringBench(database, settings, stream=f"stream:{uuid4()}")
    yield made
    made.close()


class FiringBench:
    """A database with schedules, a Redis with lanes and a stream, and what performs firings."""

    def __init__(self, database: Database, settings: RedisSettings, *, stream: str) -> None:
        self.database = database
        self.stream = stream
        self.broker: RedisBroker = make_broker(settings)
        self.store = JobStore(
            database, EventPublisher(redis_client(settings)), retention=timedelta(days=1)
        )
        self.firings = Firings(database, dead_after_seconds=60)
        self.performing = Performing(
            database, self.store, self.broker, self.firings, stream=self.stream
        )

    def close(self) -> None:
        self.broker.client.delete(self.stream, f"{self.stream}{CANCELLED_SUFFIX}")
        self.broker.flush_all()
        self.broker.close()

    def send(self, contract: TargetContract, firing_id: int) -> None:
        """Put the message of a firing on its queue."""
        self.send_raw(contract, PerformFiring(firing_id=firing_id).model_dump(mode="json"))

    def send_raw(self, contract: TargetContract, kwargs: dict[str, Any]) -> None:
        """Put a message on the queue of a target."""
        message: Message[None] = Message(
            queue_name=contract.queue,
            actor_name=contract.actor,
            args=(),
            kwargs=kwargs,
            options={},
        )
        self.broker.declare_queue(contract.queue)
        self.broker.enqueue(message)

    def held(self) -> int:
        """Return how many messages of firings Redis holds: waiting, and in anybody's hands."""
        return int(self.broker.client.hlen(f"{self.broker.namespace}:{FIRINGS_QUEUE}.msgs"))

    def schedule(self, name: str = "nightly") -> str:
        """Make a schedule, whose target does not matter here, and return its id."""
        with self.database.begin() as session:
            row = Schedule(
                id=str(uuid4()),
                name=name,
                trigger={"type": "interval", "seconds": 60},
                target=REANALYSE.name,
                target_key="any",
                created_by="test",
                changed_by="test",
            )
            session.add(row)
            return row.id

    def fire(
        self,
        contract: TargetContract,
        schedule_id: str | None = None,
        *,
        overlap: OverlapPolicy = OverlapPolicy.ALLOW,
        state: FiringState = FiringState.SENT,
        **params: Any,
    ) -> int:
        """Record a firing whose message is on its way, and return its id."""
        now = datetime.now(UTC)
        with self.database.begin() as session:
            row = Firing(
                schedule_id=schedule_id or self.schedule(f"s-{uuid4()}"),
                fire_at=now,
                due_at=now,
                origin="schedule",
                epoch=1,
                target=contract.name,
                target_key="any",
                params=params,
                overlap=overlap,
                state=state,
            )
            session.add(row)
            session.flush()
            return row.id

    def reanalyse(self, schedule_id: str, job_id: str, **how: Any) -> Firing:
        """Fire at an audio job, perform that, and return the firing."""
        firing_id = self.fire(REANALYSE, schedule_id, job_id=job_id, **how)
        self.performing.reanalyse(firing_id)
        return self.firing(firing_id)

    def look(self, schedule_id: str, camera: str, **how: Any) -> Firing:
        """Fire at a camera, perform that, and return the firing."""
        firing_id = self.fire(PREPROCESS, schedule_id, camera=camera, **how)
        self.performing.preprocess(firing_id)
        return self.firing(firing_id)

    def camera(self, name: str = "gate-1", **fields: Any) -> str:
        """Register a camera, and return its name."""
        hls = f"https://cameras.example/{name}.m3u8"
        values = {"hls": hls, "seconds": 12.5, **fields}
        with self.database.begin() as session:
            session.add(Camera(name=name, **values))
        return name

    def job(
        self,
        *steps: JobStatus,
        kind: JobKind = JobKind.AUDIO_ANALYSIS,
        job_id: str | None = None,
    ) -> str:
        """Make a job that went through `steps` after its upload; without them, to its end."""
        job_id = job_id or f"job-{uuid4()}"
        self.store.create(NewJob(id=job_id, kind=kind, lane=Lane.LOW, message=""))
        for step in steps or _TO_ITS_END:
            self.store.apply([Change(job_id=job_id, to=step, message="")])
        return job_id

    def firing(self, firing_id: int) -> Firing:
        with self.database.begin() as session:
            return session.get_one(Firing, firing_id)

    def load(self, job_id: str | None) -> Job:
        with self.database.begin() as session:
            return session.get_one(Job, job_id)

    def lane_messages(self, lane: Lane) -> int:
        """Return how many messages Redis holds for a lane."""
        return int(self.broker.client.hlen(f"{self.broker.namespace}:{lane.queue_name}.msgs"))

    def entries(self) -> list[PreprocessEntry]:
        """Return what is on the stream."""
        found: Any = self.broker.client.xrange(self.stream)
        return [
            PreprocessEntry.parse({name.decode(): value.decode() for name, value in fields.items()})
            for _, fields in found
        ]
