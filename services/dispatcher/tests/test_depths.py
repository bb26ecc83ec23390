"""What waits in each queue, as Prometheus is told of it."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis
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
from headrace_dispatcher.depths import Depths
from headrace_dispatcher.queues import Queues
from headrace_dispatcher.sqs_depths import SqsDepths
from headrace_local.ports import reserve_port
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
    store.hold("b", until=datetime.now(UTC) - timedelta(minutes=1), waiting_for="sqs", message="t")
    later = NewJob(
        id="d",
        kind=JobKind.AUDIO_ANALYSIS,
        lane=Lane.LOW,
        message="t",
        status=JobStatus.SCHEDULED,
    )
    store.create(later)
    with database.begin() as session:
        session.execute(text("UPDATE jobs SET run_at = now() + interval '1 h' WHERE id = 'd'"))
    broker = make_broker(settings)
    send(broker, new_message(ActorName.DISPATCH_HIGH, "high_priority", DispatchJob(job_id="a")))
    namespace = settings.dramatiq_namespace
    queues = Queues(database, client, namespace=namespace, stream=stream)

    assert Depths(database, queues, client, namespace=namespace).step() > 0

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
    in_stage = "headrace_oldest_job_age_seconds"
    assert (value(in_stage, status="queued", lane="high") or 0) >= 30
    # It waits for its dependency since it was put aside, not since it was taken up.
    held = value(in_stage, status="processing", lane="high")
    assert held is not None
    assert 0 <= held < 30
    assert value(in_stage, status="queued", lane="low") == 0
    assert value(in_stage, status="scheduled", lane="low") is None
    for waits_for, count in (("sqs", 1), ("retry", 0), ("run_at", 1), ("analysis_server", 0)):
        assert value("headrace_jobs_waiting", waiting_for=waits_for) == count
    late = value("headrace_jobs_overdue_seconds")
    assert late is not None
    assert 60 <= late < 120
    messages = "headrace_queue_messages"
    assert value(messages, queue="high_priority", state="waiting") == 1
    assert value(messages, queue="high_priority", state="fetched") == 0
    assert value(messages, queue="analysis_reports", state="waiting") == 0
    broker.flush_all()
    broker.close()
    client.close()
    database.close()


class Account:
    """Queues of SQS of our own, and a place in Redis for whoever asks about them."""

    def __init__(self, local_servers: LocalServers) -> None:
        env = {key.lower(): value for key, value in local_servers.env("sqs").items()}
        self.sqs = sqs_client(SqsSettings.model_validate(env))
        self.prefix = f"t{uuid.uuid4().hex[:10]}-"
        urls = ensure_queues(self.sqs, lane_queues=False, prefix=self.prefix)
        self.url = urls.by_lane[Lane.NORMAL]
        self.settings = SqsSettings.model_validate(
            {
                **{key: value for key, value in env.items() if not key.startswith("sqs_queue")},
                "sqs_queue_url": self.url,
                "sqs_result_queue_url": urls.results,
            }
        )
        redis_settings = {
            "redis_url": local_servers.redis_url,
            "redis_password": local_servers.redis_password,
        }
        self.redis = redis_client(RedisSettings.model_validate(redis_settings))
        self.namespace = f"test-{self.prefix}"

    def depths(self, client: redis.Redis | None = None) -> SqsDepths:
        return SqsDepths(self.settings, client or self.redis, namespace=self.namespace)

    def messages(self, state: str, queue: str = "audio-analysis-queue") -> float | None:
        return value("headrace_sqs_messages", queue=f"{self.prefix}{queue}", state=state)

    def tell(self, count: int) -> None:
        """Be another replica that has just asked."""
        figures = {f"{self.prefix}audio-analysis-queue": {"visible": count}}
        self.redis.set(f"{self.namespace}:sqs-depths", json.dumps(figures))

    def end_turn(self) -> None:
        """Let the time go by after which somebody asks again, whoever asked last."""
        assert self.redis.delete(f"{self.namespace}:sqs-depths:turn") == 1


@pytest.fixture
def account(local_servers: LocalServers) -> Iterator[Account]:
    made = Account(local_servers)
    yield made
    made.redis.delete(f"{made.namespace}:sqs-depths", f"{made.namespace}:sqs-depths:turn")
    made.redis.close()


def test_messages_in_sqs(account: Account) -> None:
    for body in ("1", "2"):
        account.sqs.send_message(QueueUrl=account.url, MessageBody=body)
    account.sqs.receive_message(QueueUrl=account.url, MaxNumberOfMessages=1)

    assert account.depths().step() > 0

    counts = [account.messages(state) for state in ("visible", "in_flight", "delayed")]
    assert counts == [1, 1, 0]
    assert account.messages("visible", "analysis-results-queue") == 0


def test_one_of_all_dispatchers_asks_sqs_and_the_others_say_the_same(account: Account) -> None:
    calls = {"api": "sqs", "operation": "GetQueueAttributes", "outcome": "ok"}

    def asked() -> float:
        return value("headrace_aws_request_duration_seconds_count", **calls) or 0.0

    one, other, before = account.depths(), account.depths(), asked()
    one.step()
    assert asked() == before + 2  # a call a queue
    account.tell(7)
    other.step()
    one.step()
    assert asked() == before + 2
    assert account.messages("visible") == 7
    # Whoever asked last is gone, and another finds out.
    account.end_turn()
    other.step()
    assert asked() == before + 4
    assert account.messages("visible") == 0


def test_without_redis_each_asks_for_itself(account: Account) -> None:
    account.sqs.send_message(QueueUrl=account.url, MessageBody="1")
    away = redis.Redis(port=reserve_port(), socket_connect_timeout=1)
    account.depths(away).step()
    assert account.messages("visible") == 1


def test_without_queues_in_sqs_nothing_is_asked() -> None:
    nobody = redis.Redis(port=reserve_port())
    depths = SqsDepths(SqsSettings.model_validate({}), nobody, namespace="n")
    assert depths.step() > 0
