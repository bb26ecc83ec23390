"""What is measured of calls, messages and jobs, on real servers."""

import asyncio
from datetime import timedelta
from typing import Any, NoReturn

import dramatiq
import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi import FastAPI
from prometheus_client import REGISTRY

from headrace_common.broker import make_broker
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import ProcessSettings, RedisSettings, S3Settings
from headrace_common.storage import s3_client
from headrace_common.telemetry.build import tell_build
from headrace_common.web import create_app
from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.stack
def test_a_call_to_s3_is_measured_by_what_came_of_it(local_servers: LocalServers) -> None:
    env = {key.lower(): value for key, value in local_servers.env("s3").items()}
    settings = S3Settings.model_validate(env)
    name = "headrace_aws_request_duration_seconds_count"
    found = {"api": "s3", "operation": "HeadBucket", "outcome": "ok"}
    missing = {"api": "s3", "operation": "GetObject", "outcome": "client_error"}
    silent = {"api": "s3", "operation": "HeadBucket", "outcome": "unreachable"}
    again = {"api": "s3", "operation": "HeadBucket"}
    before = [value(name, **labels) for labels in (found, missing, silent)]
    retried = value("headrace_aws_retries_total", **again)

    client = s3_client(settings)
    client.head_bucket(Bucket=settings.s3_bucket)
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=settings.s3_bucket, Key="audio/nothing")
    nobody = f"http://127.0.0.1:{reserve_port()}"
    away = s3_client(settings.model_copy(update={"s3_endpoint_url": nobody}))
    with pytest.raises(EndpointConnectionError):
        away.head_bucket(Bucket=settings.s3_bucket)

    after = [value(name, **labels) for labels in (found, missing, silent)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
    # Of an answer, not of a silence.
    assert value("headrace_aws_retries_total", **again) == retried


@pytest.mark.stack
def test_a_message_that_fails_is_counted_at_each_retry_and_when_it_is_given_up(
    local_servers: LocalServers,
) -> None:
    broker = make_broker(
        RedisSettings.model_validate(
            {
                "redis_url": local_servers.redis_url,
                "redis_password": local_servers.redis_password,
                "dramatiq_namespace": "metrics-test",
            }
        ),
        max_retries=1,
    )

    @dramatiq.actor(broker=broker, actor_name="metrics.fails", queue_name="m", min_backoff=1)
    def fails() -> NoReturn:
        raise RuntimeError("as it always does")

    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        fails.send()
        given_up = "headrace_messages_given_up_total"
        # What nobody here knows is counted, and makes no series of its own.
        unknown = value(given_up, actor="unknown")
        for name in ("invented-1", "invented-2"):
            broker.enqueue(dramatiq.Message("m", name, (), {}, {"trace": {"traceparent": 5}}))
        wait_until(lambda: value(given_up, actor="metrics.fails") == 1)
        wait_until(lambda: value(given_up, actor="unknown") == unknown + 2)
    finally:
        worker.stop()
        broker.flush_all()
        broker.close()
    assert value("headrace_messages_retried_total", actor="metrics.fails") == 1
    actors = {
        sample.labels["actor"]
        for family in REGISTRY.collect()
        for sample in family.samples
        if "actor" in sample.labels
    }
    assert not [actor for actor in actors if actor.startswith("invented")]
    tried = {"actor": "metrics.fails", "outcome": "failed"}
    assert value("headrace_message_duration_seconds_count", **tried) == 2


@pytest.mark.stack
def test_the_time_in_each_stage_and_of_the_whole_job_is_measured(
    database: Database, local_servers: LocalServers
) -> None:
    redis_settings = {
        "redis_url": local_servers.redis_url,
        "redis_password": local_servers.redis_password,
    }
    client = redis_client(RedisSettings.model_validate(redis_settings))
    store = JobStore(database, EventPublisher(client), retention=timedelta(days=1))
    kind, lane = JobKind.CCTV_PREPROCESS, Lane.HIGH
    stages = "headrace_job_stage_duration_seconds_count"
    whole = {"kind": kind.value, "lane": lane.value, "status": "failed"}

    def counts() -> list[float]:
        of_stage = [value(stages, kind=kind, status=name) for name in ("queued", "processing")]
        return [*of_stage, value("headrace_job_duration_seconds_count", **whole)]

    before, seconds_before = counts(), value("headrace_job_duration_seconds_sum", **whole)
    new = NewJob(id="metrics-1", kind=kind, lane=lane, message="t", status=JobStatus.QUEUED)
    store.create(new)
    for target in (JobStatus.PROCESSING, JobStatus.PROCESSING, JobStatus.FAILED, JobStatus.FAILED):
        store.apply([Change(job_id="metrics-1", to=target, message="t")])
    # Taken up twice, and ended once: what changes no status, or is refused, is no stage.
    assert [new - old for new, old in zip(counts(), before, strict=True)] == [1, 1, 1]
    seconds = value("headrace_job_duration_seconds_sum", **whole) - seconds_before
    assert 0 < seconds < 60
    client.close()


def test_any_word_as_a_method_makes_one_series() -> None:
    app: FastAPI = create_app(ProcessSettings(), service="notes", description="")
    answers = [_call(app, method) for method in ("BREW", "PROPFIND", "X-1")]
    assert {answer.status_code for answer in answers} <= {404, 405}
    methods = {
        sample.labels["method"]
        for family in REGISTRY.collect()
        if family.name == "headrace_http_request_duration_seconds"
        for sample in family.samples
    }
    assert "other" in methods
    assert not methods & {"BREW", "PROPFIND", "X-1"}


def test_a_process_says_which_build_it_is_of() -> None:
    tell_build("0123abc")
    told: list[dict[str, Any]] = [
        sample.labels
        for family in REGISTRY.collect()
        if family.name == "headrace_build_info"
        for sample in family.samples
    ]
    assert "0123abc" in {labels["revision"] for labels in told}


def _call(app: FastAPI, method: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, "/nothing")

    return asyncio.run(ask())
