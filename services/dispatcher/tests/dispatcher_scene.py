"""A dispatcher of the test's own: fresh database, own Redis namespace, own SQS queues."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from dramatiq.brokers.redis import RedisBroker

from headrace_common.broker import new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, EventPublisher, JobQueries, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, SqsSettings
from headrace_common.sqs import QueueUrls, ensure_queues, sqs_client
from headrace_dispatcher.app import Dispatcher
from headrace_dispatcher.settings import DispatcherSettings
from headrace_local.pytest_plugin import LocalServers

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

SettingsFor = Callable[..., DispatcherSettings]


@dataclass(frozen=True)
class Queues:
    """The SQS queues of one test."""

    client: "SQSClient"
    urls: QueueUrls

    def receive(self, lane: Lane) -> list[dict[str, Any]]:
        """Return up to ten messages of a lane's queue, waiting two seconds at most."""
        answer = self.client.receive_message(
            QueueUrl=self.urls.by_lane[lane],
            MaxNumberOfMessages=10,
            WaitTimeSeconds=2,
            MessageAttributeNames=["All"],
        )
        return [dict(message) for message in answer.get("Messages", [])]


@pytest.fixture
def queues(local_servers: LocalServers) -> Iterator[Queues]:
    local_servers.require("sqs")
    settings = SqsSettings.model_validate(
        {"sqs_endpoint_url": local_servers.sqs_endpoint_url, **_aws(local_servers)}
    )
    client = sqs_client(settings)
    yield Queues(client, ensure_queues(client, prefix=f"t{uuid4().hex[:12]}-"))
    client.close()


@pytest.fixture
def settings_for(
    local_servers: LocalServers, fresh_database: DatabaseSettings, queues: Queues
) -> SettingsFor:
    """Make settings; keyword arguments change them."""

    def make(**changes: Any) -> DispatcherSettings:
        return DispatcherSettings.model_validate(
            {
                "database_url": fresh_database.database_url.get_secret_value(),
                "redis_url": local_servers.redis_url,
                "redis_password": local_servers.redis_password,
                "dramatiq_namespace": f"test-{uuid4().hex}",
                **_aws(local_servers),
                "sqs_endpoint_url": local_servers.sqs_endpoint_url,
                "use_sqs_queue": True,
                "sqs_queue_url": queues.urls.by_lane[Lane.NORMAL],
                "sqs_queue_url_high": queues.urls.by_lane[Lane.HIGH],
                "sqs_queue_url_low": queues.urls.by_lane[Lane.LOW],
                "webhook_url": "http://127.0.0.1:9/webhooks/analysis",
                "callback_token_secrets": ["s" * 32],
                "retry_base_seconds": 0.05,
                "retry_poll_seconds": 0.05,
                "circuit_first_pause_seconds": 0.1,
                "circuit_max_pause_seconds": 0.4,
                "sweep_interval_seconds": 300,
                # Less than a second: no poll of SQS that every stop would wait for.
                "dead_letter_interval_seconds": 0.9,
                **changes,
            }
        )

    return make


class Scene:
    """A dispatcher, and what a test does around it."""

    def __init__(self, settings: DispatcherSettings) -> None:
        self.settings = settings
        self.dispatcher = Dispatcher(settings)
        self.broker: RedisBroker = self.dispatcher.broker
        self.database = Database(settings)
        self._redis = redis_client(settings)
        self.store = JobStore(
            self.database, EventPublisher(self._redis), retention=timedelta(days=1)
        )

    def close(self) -> None:
        # Those that were not run were not stopped either.
        self.dispatcher.bridge.close()
        self.dispatcher.database.close()
        self._redis.close()
        self.database.close()

    def job(self, lane: Lane = Lane.NORMAL, *, enqueue: bool = True, **fields: Any) -> str:
        """Create a job that is `queued`, with its message on the lane unless told otherwise."""
        job_id, message_id = self._uploading(lane, **fields), str(uuid4())
        queuing = Change(
            job_id=job_id, to=JobStatus.QUEUING, message="", queue_message_id=message_id
        )
        self.store.apply([queuing, Change(job_id=job_id, to=JobStatus.QUEUED, message="")])
        if enqueue:
            self.enqueue(job_id, lane, message_id)
        return job_id

    def scheduled(self, *, seconds: float, lane: Lane = Lane.NORMAL) -> str:
        """Create a job that begins `seconds` from now."""
        job_id = self._uploading(lane)
        run_at = datetime.now(UTC) + timedelta(seconds=seconds)
        change = Change(job_id=job_id, to=JobStatus.SCHEDULED, message="", run_at=run_at)
        assert self.store.apply([change])[0].applied
        return job_id

    def _uploading(self, lane: Lane, **fields: Any) -> str:
        job_id = f"job-{uuid4()}"
        self.store.create(
            NewJob(
                id=job_id,
                kind=JobKind.AUDIO_ANALYSIS,
                lane=lane,
                message="Uploading",
                token_id="token-1",
                input={
                    "s3_audio_url": f"s3://bucket/audio/{job_id}.wav",
                    "s3_textgrid_url": "s3://bucket/references/a.TextGrid",
                    "s3_pitch_url": None,
                    **fields,
                },
            )
        )
        return job_id

    def enqueue(self, job_id: str, lane: Lane, message_id: str | None = None) -> None:
        payload = DispatchJob(job_id=job_id)
        message = new_message(dispatch_actor(lane), lane.queue_name, payload, message_id=message_id)
        send(self.broker, message)

    def load(self, job_id: str) -> Job:
        with self.database.begin() as session:
            return JobQueries(session).get(job_id)

    def messages(self, job_id: str) -> list[str]:
        """Return what the job's timeline says."""
        with self.database.begin() as session:
            return [event.message for event in JobQueries(session).events_after(job_id, 0)]


@pytest.fixture
def scene_with(settings_for: SettingsFor) -> Iterator[Callable[..., Scene]]:
    """Make scenes; keyword arguments change the settings."""
    scenes: list[Scene] = []

    def make(**changes: Any) -> Scene:
        scenes.append(Scene(settings_for(**changes)))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def scene(scene_with: Callable[..., Scene]) -> Scene:
    return scene_with()


@contextmanager
def running(scene: Scene) -> Iterator[Scene]:
    """Run the scene's dispatcher for as long as the block lasts."""
    scene.dispatcher.start()
    try:
        yield scene
    finally:
        scene.dispatcher.stop()


def _aws(servers: LocalServers) -> dict[str, str]:
    credentials = dict(servers.aws_credentials)
    return {"aws_region": credentials.pop("region_name"), **credentials}
