"""What waits in each queue, as Prometheus is told of it."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from headrace_common.broker import make_broker, new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import ActorName, DispatchJob
from headrace_common.db import Database
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, RedisSettings, SqsSettings
from headrace_common.sqs import ensure_queues, sqs_client
from headrace_dispatcher.depths import Depths, SqsDepths
from headrace_dispatcher.queues import Queues
from headrace_local.pytest_plugin import LocalServers

pytestmark = pytest.mark.stack


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_rows_and_messages_of_every_queue(
    local_servers: LocalServers, fresh_database: DatabaseSettings
) -> None:
    settings = RedisSettings.model_validate(
        {
            "redis_url": local_servers.redis_url,
            "redis_password": local_servers.redis_password,
            "dramatiq_namespace": f"test-{uuid.uuid4().hex}",
        }
    )
    database, client = Database(fresh_database), redis_client(settings)
    store = JobStore(database, EventPublisher(client), retention=timedelta(days=1))
    stream = "stream:depths"
    for name, kind, lane in (
        ("a", JobKind.AUDIO_ANALYSIS, Lane.HIGH),
        ("b", JobKind.AUDIO_ANALYSIS, Lane.HIGH),
        ("c", JobKind.CCTV_PREPROCESS, Lane.NORMAL),
    ):
        store.create(NewJob(id=name, kind=kind, lane=lane, message="t", status=JobStatus.QUEUED))
    store.apply([Change(job_id="b", to=JobStatus.PROCESSING, message="t")])
    with database.begin() as session:
        session.execute(text("UPDATE jobs SET stage_entered_at = now() - interval '30 s'"))
    store.hold("b", until=datetime.now(UTC) + timedelta(hours=1), waiting_for="sqs", message="t")
    broker = make_broker(settings)
    send(broker, new_message(ActorName.DISPATCH_HIGH, "high_priority", DispatchJob(job_id="a")))
    namespace = settings.dramatiq_namespace
    queues = Queues(database, client, namespace=namespace, stream=stream)

    assert Depths(queues, client, namespace=namespace).step() > 0

    def jobs(queue: str) -> list[float | None]:
        states = ("waiting", "started", "held")
        return [value("headrace_queue_jobs", queue=queue, state=state) for state in states]

    assert jobs("high_priority") == [1, 1, 1]
    assert jobs("low_priority") == [0, 0, 0]
    assert jobs(stream) == [1, 0, 0]
    oldest = value("headrace_queue_oldest_age_seconds", queue="high_priority")
    assert oldest is not None
    assert 30 <= oldest < 90
    assert value("headrace_queue_oldest_age_seconds", queue="low_priority") == 0
    assert value("headrace_queue_paused", queue="high_priority") == 0
    messages = "headrace_queue_messages"
    assert value(messages, queue="high_priority", state="waiting") == 1
    assert value(messages, queue="high_priority", state="fetched") == 0
    assert value(messages, queue="analysis_reports", state="waiting") == 0
    broker.flush_all()
    broker.close()
    client.close()
    database.close()


def test_messages_in_sqs(local_servers: LocalServers) -> None:
    env = {key.lower(): value for key, value in local_servers.env("sqs").items()}
    client = sqs_client(SqsSettings.model_validate(env))
    prefix = f"t{uuid.uuid4().hex[:10]}-"
    urls = ensure_queues(client, lane_queues=False, prefix=prefix)
    settings = SqsSettings.model_validate(
        {
            **{key: value for key, value in env.items() if not key.startswith("sqs_queue")},
            "sqs_queue_url": urls.by_lane[Lane.NORMAL],
            "sqs_result_queue_url": urls.results,
        }
    )
    for body in ("1", "2"):
        client.send_message(QueueUrl=urls.by_lane[Lane.NORMAL], MessageBody=body)
    client.receive_message(QueueUrl=urls.by_lane[Lane.NORMAL], MaxNumberOfMessages=1)

    assert SqsDepths(settings).step() > 0

    queue = f"{prefix}audio-analysis-queue"
    for state, count in (("visible", 1), ("in_flight", 1), ("delayed", 0)):
        assert value("headrace_sqs_messages", queue=queue, state=state) == count
    results = f"{prefix}analysis-results-queue"
    assert value("headrace_sqs_messages", queue=results, state="visible") == 0


def test_without_queues_in_sqs_nothing_is_asked() -> None:
    assert SqsDepths(SqsSettings.model_validate({})).step() > 0
