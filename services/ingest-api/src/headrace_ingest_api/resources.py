"""What the process holds open: made without connecting, closed at the stop."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import redis
from dramatiq.brokers.redis import RedisBroker

from headrace_common.broker import make_broker
from headrace_common.circuit import CircuitBreaker
from headrace_common.db import Database
from headrace_common.jobs import EventPublisher, JobStore
from headrace_common.redis_client import redis_client
from headrace_common.sqs import sqs_client
from headrace_common.storage import guard, s3_client, s3_signing_client
from headrace_ingest_api.settings import IngestSettings
from headrace_ingest_api.threads import S3Threads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True)
class Resources:
    """Clients and pools, one of each."""

    settings: IngestSettings
    database: Database
    store: JobStore
    redis: redis.Redis
    broker: RedisBroker
    s3: "S3Client"
    s3_signing: "S3Client"
    s3_breaker: CircuitBreaker
    s3_threads: S3Threads
    sqs: "SQSClient | None"

    @classmethod
    def make(cls, settings: IngestSettings) -> Self:
        """Make them; each connects when it is first used."""
        database = Database(settings, application_name="headrace-ingest-api")
        commands = redis_client(settings)
        s3, breaker = s3_client(settings), CircuitBreaker("s3", settings.circuit_policy)
        guard(s3, breaker)
        return cls(
            settings=settings,
            database=database,
            store=JobStore(database, EventPublisher(commands), retention=settings.job_retention),
            redis=commands,
            broker=make_broker(settings),
            s3=s3,
            s3_signing=s3_signing_client(settings),
            s3_breaker=breaker,
            # As many as the client has connections: more would only wait for one.
            s3_threads=S3Threads(settings.aws_max_connections),
            sqs=sqs_client(settings) if settings.use_sqs_queue else None,
        )

    def close(self) -> None:
        """Close everything."""
        self.s3_threads.close()
        self.broker.close()
        self.redis.close()
        self.database.close()
