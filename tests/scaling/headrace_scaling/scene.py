"""A fleet with what one looks at it and works with it by: its database, Redis, SQS and S3."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from uuid import uuid4

from headrace_common.broker import make_broker, new_message
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Database
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, RedisSettings, SettingsGroup
from headrace_local.clients import local_s3_client, local_sqs_client
from headrace_scaling.fleet import Fleet

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: A reference item that no recording is compared with.
TOKEN: Final = "scaling"
#: What a job goes through before its analysis.
_WAY: Final = (
    JobStatus.QUEUING,
    JobStatus.QUEUED,
    JobStatus.PROCESSING,
    JobStatus.QUEUED_FOR_ANALYSIS,
)
Group = TypeVar("Group", bound=SettingsGroup)


class Scene:
    """A context manager: connects when something is first used."""

    def __init__(self, fleet: Fleet) -> None:
        """Make it for a fleet whose servers run."""
        self.fleet = fleet
        self.settings = dict(fleet.settings)
        self.headers = {"authorization": f"Bearer {fleet.api_key}"}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what was opened."""
        self._open.close()

    @cached_property
    def database(self) -> Database:
        """The system of record."""
        database = Database(self._read(DatabaseSettings), application_name="headrace-scaling")
        self._open.callback(database.close)
        return database

    @cached_property
    def redis(self) -> Any:
        """The transport."""
        return self._open.enter_context(redis_client(self._redis_settings))

    @cached_property
    def store(self) -> JobStore:
        """What makes and changes jobs."""
        return JobStore(self.database, EventPublisher(self.redis), retention=timedelta(days=1))

    @cached_property
    def sqs(self) -> "SQSClient":
        """The queues to analysis servers."""
        return local_sqs_client(self.settings["SQS_ENDPOINT_URL"], **self._aws)

    @cached_property
    def s3(self) -> "S3Client":
        """Where recordings are."""
        return local_s3_client(self.settings["S3_ENDPOINT_URL"], **self._aws)

    def make_jobs(self, count: int, *, to: JobStatus = JobStatus.QUEUED) -> list[str]:
        """Make audio jobs as the ingest API does, without a recording, and return their ids.

        Args:
            count: how many.
            to: status that they are brought to, by way of those before.
        """
        ids = [str(uuid4()) for _ in range(count)]
        with self.database.begin() as session:
            events = [
                self.store.create_in(
                    session,
                    NewJob(
                        id=job_id,
                        kind=JobKind.AUDIO_ANALYSIS,
                        lane=Lane.NORMAL,
                        message="",
                        token_id=TOKEN,
                        input={"s3_audio_url": f"s3://{self.settings['S3_BUCKET']}/{job_id}.wav"},
                    ),
                )
                for job_id in ids
            ]
        self.store.publish_events(events)
        for status in _WAY[: _WAY.index(to) + 1]:
            self.store.apply(
                [
                    Change(
                        job_id=job_id,
                        to=status,
                        message="",
                        queue_message_id=job_id if status is JobStatus.QUEUING else None,
                    )
                    for job_id in ids
                ]
            )
        return ids

    def queue_jobs(self, ids: Sequence[str]) -> None:
        """Put jobs on the normal lane; each is its own message's id too."""
        for job_id in ids:
            self._broker.enqueue(
                new_message(
                    dispatch_actor(Lane.NORMAL),
                    Lane.NORMAL.queue_name,
                    DispatchJob(job_id=job_id),
                    message_id=job_id,
                )
            )

    @cached_property
    def _broker(self) -> Any:
        broker = make_broker(self._redis_settings)
        broker.declare_queue(Lane.NORMAL.queue_name)
        self._open.callback(broker.close)
        return broker

    @property
    def _redis_settings(self) -> RedisSettings:
        return self._read(RedisSettings)

    @property
    def _aws(self) -> dict[str, Any]:
        return {
            "region_name": self.settings["AWS_REGION"],
            "aws_access_key_id": self.settings["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": self.settings["AWS_SECRET_ACCESS_KEY"],
        }

    def _read(self, group: type[Group]) -> Group:
        return group.model_validate({name.lower(): it for name, it in self.settings.items()})
