"""The dispatcher's process: its worker, its sweep, and a small HTTP API beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio.to_thread
from dramatiq.brokers.redis import RedisBroker
from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field

from headrace_common.broker import make_broker
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database
from headrace_common.jobs import EventPublisher, JobQueries, JobStore
from headrace_common.keys import Principal, Scope
from headrace_common.redis_client import redis_client
from headrace_common.web import Authenticator, Check, create_app, requires
from headrace_common.web.problems import responses
from headrace_common.worker import EmbeddedWorker
from headrace_dispatcher.actors import register_actors
from headrace_dispatcher.bridge import Bridge
from headrace_dispatcher.dispatch import Dispatching
from headrace_dispatcher.http_transport import HttpTransport
from headrace_dispatcher.lanes import LaneBroker
from headrace_dispatcher.routing import EnvironmentRouting, Routing
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.sqs_transport import SqsTransport
from headrace_dispatcher.sweep import Sweep
from headrace_dispatcher.transports import Transport, TransportName


class LaneState(BaseModel):
    """A lane as the dispatcher sees it."""

    queue: str = Field(examples=["high_priority"])
    messages: int = Field(description="In Redis: waiting and in hand", examples=[3])
    waiting: int = Field(description="Jobs that are `queued`", examples=[2])
    started: int = Field(description="Jobs that are `processing`", examples=[1])


class DispatcherState(BaseModel):
    """What the dispatcher does."""

    default_transport: TransportName
    transports: list[TransportName] = Field(description="Those that are configured")
    lanes: dict[Lane, LaneState]


class Dispatcher:
    """Everything that runs in the process."""

    def __init__(self, settings: DispatcherSettings) -> None:
        """Put the parts together; nothing runs before `start`."""
        self.settings = settings
        self.database = Database(settings, application_name="headrace-dispatcher")
        self.broker: RedisBroker = make_broker(
            settings, time_limit_seconds=settings.job_stage_timeout_seconds, broker_class=LaneBroker
        )
        self._store = JobStore(
            self.database,
            EventPublisher(redis_client(settings)),
            retention=settings.job_retention,
        )
        self.transports = make_transports(settings)
        self.routing: Routing = EnvironmentRouting(use_sqs=settings.use_sqs_queue)
        self.bridge = Bridge(
            self.transports,
            self._store,
            self.routing,
            linger_seconds=settings.batch_linger_seconds,
            senders=settings.batch_senders,
        )
        dispatching = Dispatching(self.database, self._store, self.bridge, self.routing, settings)
        self.worker = EmbeddedWorker(
            self.broker,
            queues=register_actors(self.broker, dispatching),
            threads=settings.dispatcher_threads,
        )
        self.sweep = Sweep(self.database, self._store, dispatching, self.broker, settings)

    def start(self) -> None:
        """Start taking jobs."""
        self.worker.start()
        self.sweep.start()

    def stop(self) -> None:
        """Finish what is in hand, hand the rest back, and close every connection."""
        self.sweep.stop()
        self.worker.stop(grace_seconds=self.settings.shutdown_grace_seconds)
        self.bridge.close()
        self.broker.close()
        self.database.close()

    def lane_messages(self, lane: Lane) -> int:
        """Return how many messages Redis holds for `lane`."""
        key = f"{self.broker.namespace}:{lane.queue_name}.msgs"
        return int(self.broker.client.hlen(key))


def make_transports(settings: DispatcherSettings) -> list[Transport]:
    """Make every transport that the settings allow, not only the chosen one."""
    transports: list[Transport] = []
    if settings.sqs_queue_url is not None:
        transports.append(SqsTransport(settings))
    if settings.analysis_server_url is not None:
        transports.append(
            HttpTransport(
                settings.analysis_server_url,
                timeout_seconds=settings.analysis_server_timeout_seconds,
                secrets=settings.webhook_secret_texts(),
                max_bytes=settings.sqs_max_message_bytes,
            )
        )
    return transports


def build_app(settings: DispatcherSettings) -> FastAPI:
    """Make the app; nothing connects before it is served."""
    dispatcher = Dispatcher(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        dispatcher.start()
        yield
        await anyio.to_thread.run_sync(dispatcher.stop)

    app = create_app(
        settings,
        service="dispatcher",
        description="Takes jobs off the lanes and hands them to the analysis servers.",
        alive=[
            Check("worker", dispatcher.worker.check),
            Check("bridge", dispatcher.bridge.check),
            Check("sweep", dispatcher.sweep.check),
        ],
        ready=[
            Check("database", dispatcher.database.ping),
            Check("redis", dispatcher.broker.client.ping),
        ],
        lifespan=lifespan,
    )
    app.state.authenticator = Authenticator(dispatcher.database, legacy_open=False)

    @app.get("/state", tags=["dispatcher"], responses=responses())
    def state(_caller: Annotated[Principal, Depends(requires(Scope.JOBS_READ))]) -> DispatcherState:
        """What the dispatcher does, lane by lane."""
        with dispatcher.database.begin() as session:
            counts = JobQueries(session).lane_counts()
        return DispatcherState(
            default_transport=TransportName.SQS if settings.use_sqs_queue else TransportName.HTTP,
            transports=[transport.name for transport in dispatcher.transports],
            lanes={
                lane: LaneState(
                    queue=lane.queue_name,
                    messages=dispatcher.lane_messages(lane),
                    waiting=counts[lane].waiting,
                    started=counts[lane].started,
                )
                for lane in Lane
            },
        )

    return app
