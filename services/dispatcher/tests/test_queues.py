"""Pausing queues, and what is told of them."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import redis
from fastapi import FastAPI
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_common import keys
from headrace_common.contracts.cctv import PAUSED_SUFFIX
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import LANE_QUEUES, Lane
from headrace_common.db import AuditEntry, Database
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.keys import Scope
from headrace_common.queue_controls import paused_queues
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, ProcessSettings, RedisSettings
from headrace_common.web import Authenticator, create_app
from headrace_dispatcher.queues import Queues, queues_router
from headrace_local.pytest_plugin import LocalServers

pytestmark = pytest.mark.stack


@dataclass
class Bench:
    database: Database
    redis: redis.Redis
    store: JobStore
    queues: Queues
    app: FastAPI
    stream: str

    def key(self, *scopes: Scope) -> dict[str, str]:
        with self.database.begin() as session:
            secret = keys.create(session, name="test", scopes=scopes).secret_text
        return {"authorization": f"Bearer {secret}"}

    def job(self, kind: JobKind, lane: Lane, *steps: JobStatus) -> str:
        job_id = str(uuid.uuid4())
        self.store.create(
            NewJob(id=job_id, kind=kind, lane=lane, message="t", status=JobStatus.QUEUED)
        )
        for step in steps:
            self.store.apply([Change(job_id=job_id, to=step, message="t")])
        return job_id

    def call(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: dict[str, str] | None = None,
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers=headers, json=body)

        return asyncio.run(ask())

    def post(
        self, path: str, headers: dict[str, str], body: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.call("POST", path, headers, body)


@pytest.fixture
def bench(local_servers: LocalServers, fresh_database: DatabaseSettings) -> Iterator[Bench]:
    settings = RedisSettings.model_validate(
        {"redis_url": local_servers.redis_url, "redis_password": local_servers.redis_password}
    )
    database, client = Database(fresh_database), redis_client(settings)
    stream = f"stream:{uuid.uuid4().hex}"
    queues = Queues(database, client, namespace=f"test-{uuid.uuid4().hex}", stream=stream)
    app = create_app(ProcessSettings(), service="test", description="")
    app.state.authenticator = Authenticator(database, legacy_open=False)
    app.include_router(queues_router(queues))
    store = JobStore(database, EventPublisher(client), retention=timedelta(days=1))
    yield Bench(database, client, store, queues, app, stream)
    client.delete(f"{stream}{PAUSED_SUFFIX}")
    client.close()
    database.close()


def test_what_waits_in_each_queue(bench: Bench) -> None:
    bench.job(JobKind.AUDIO_ANALYSIS, Lane.HIGH)
    held = bench.job(JobKind.AUDIO_ANALYSIS, Lane.HIGH, JobStatus.PROCESSING)
    bench.store.hold(
        held, until=datetime.now(UTC) + timedelta(hours=1), waiting_for="sqs", message="t"
    )
    bench.job(JobKind.AUDIO_ANALYSIS, Lane.LOW, JobStatus.CANCELLED)
    bench.job(JobKind.CCTV_PREPROCESS, Lane.NORMAL)
    bench.redis.xadd(bench.stream, {"cctvId": "c"})

    answer = bench.call("GET", "/queues", bench.key(Scope.JOBS_READ))

    shown = {queue["name"]: queue for queue in answer.json()["queues"]}
    assert list(shown) == [*LANE_QUEUES.values(), bench.stream]
    high, stream = shown["high_priority"], shown[bench.stream]
    assert (high["waiting"], high["started"], high["waiting_for"]) == (1, 1, {"sqs": 1})
    assert (high["paused"], high["messages"], high["lane"]) == (False, 0, "high")
    assert shown["low_priority"]["waiting"] == shown["audio_analysis"]["waiting"] == 0
    assert (stream["waiting"], stream["messages"], stream["lane"]) == (1, 1, None)
    bench.redis.delete(bench.stream)


def test_a_lane_is_paused_and_goes_on(bench: Bench) -> None:
    admin = bench.key(Scope.ADMIN)

    paused = bench.post("/queues/low_priority/pause", admin, {"reason": "S3 moves"})

    assert paused.status_code == 200
    assert (paused.json()["paused"], paused.json()["reason"]) == (True, "S3 moves")
    assert paused.json()["paused_by"] in admin["authorization"]
    with bench.database.begin() as session:
        assert set(paused_queues(session)) == {"low_priority"}
    assert bench.post("/queues/low_priority/resume", admin).json()["paused"] is False
    with bench.database.begin() as session:
        assert paused_queues(session) == {}
        actions = [entry.action for entry in session.query(AuditEntry).order_by(AuditEntry.id)]
    assert actions == ["queue.pause", "queue.resume"]


def test_the_workers_of_the_stream_are_told_whatever_redis_forgets(bench: Bench) -> None:
    key = f"{bench.stream}{PAUSED_SUFFIX}"
    admin = bench.key(Scope.ADMIN)

    assert bench.post(f"/queues/{bench.stream}/pause", admin, {"reason": "why"}).json()["paused"]
    assert bench.redis.get(key) == b"why"
    bench.redis.delete(key)
    bench.queues.mirror()
    assert bench.redis.get(key) == b"why"
    assert bench.post(f"/queues/{bench.stream}/resume", admin).status_code == 200
    assert bench.redis.get(key) is None
    bench.redis.set(key, "left behind")
    bench.queues.mirror()
    assert bench.redis.get(key) is None


def test_only_what_there_is_and_only_admins(bench: Bench) -> None:
    unknown = bench.post("/queues/nothing/pause", bench.key(Scope.ADMIN))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert "high_priority, audio_analysis, low_priority" in unknown.json()["detail"]
    assert bench.post("/queues/high_priority/pause", bench.key(Scope.JOBS_WRITE)).status_code == 403
    assert bench.call("POST", "/queues/high_priority/pause").status_code == 401
    assert bench.call("GET", "/queues").status_code == 401


def test_without_redis_the_row_counts(bench: Bench) -> None:
    away = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    queues = Queues(bench.database, away, namespace="n", stream=bench.stream)
    view = queues.set_paused(bench.stream, paused=True, actor="a", reason=None)
    assert (view.paused, view.messages) == (True, None)
    bench.queues.mirror()
    assert bench.redis.get(f"{bench.stream}{PAUSED_SUFFIX}") == b"paused"
    away.close()
