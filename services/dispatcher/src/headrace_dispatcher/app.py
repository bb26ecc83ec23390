"""The dispatcher's process: its workers, and a small HTTP API beside them."""

import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Annotated, Final

import anyio.to_thread
import structlog
from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field

from headrace_common.broker import make_broker
from headrace_common.circuit import CircuitView
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.schedules import target_contracts
from headrace_common.db import Database, Job
from headrace_common.firings import Firings
from headrace_common.jobs import EventPublisher, JobQueries, JobStore
from headrace_common.keys import Principal, Scope
from headrace_common.redis_client import redis_client
from headrace_common.repeat import Repeater
from headrace_common.web import Authenticator, Check, create_app, requires
from headrace_common.web.problems import responses
from headrace_common.worker import EmbeddedWorker
from headrace_dispatcher.actors import register_actors
from headrace_dispatcher.asking import AskingAgain
from headrace_dispatcher.audit_trail import audit_router
from headrace_dispatcher.backlog import open_jobs, waiting
from headrace_dispatcher.bridge import Bridge
from headrace_dispatcher.chores.process import make_chores
from headrace_dispatcher.circuits import Circuits, circuit_check
from headrace_dispatcher.dead.routes import dead_letters_router
from headrace_dispatcher.dead.service import DeadLetters
from headrace_dispatcher.depths import Depths
from headrace_dispatcher.dispatch import Dispatching
from headrace_dispatcher.due import DueJobs
from headrace_dispatcher.gate import Gate
from headrace_dispatcher.http_transport import HttpTransport
from headrace_dispatcher.lanes import LaneBroker
from headrace_dispatcher.queues import Queues, queues_router
from headrace_dispatcher.rollout.process import RolloutProcess
from headrace_dispatcher.routing import Routing
from headrace_dispatcher.scheduling.built_in import built_in_schedules, seed_built_in
from headrace_dispatcher.scheduling.performing import Performing
from headrace_dispatcher.scheduling.process import Scheduler
from headrace_dispatcher.scheduling.routes import scheduling_routers
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.sqs_depths import SqsDepths
from headrace_dispatcher.sqs_transport import SqsTransport
from headrace_dispatcher.sweep import Sweep
from headrace_dispatcher.transports import Receipt, Transport, TransportName

log = structlog.get_logger()

#: A step beside the lanes takes milliseconds; one that waits for a server is left to itself.
_STEP_GRACE_SECONDS: Final = 10.0


class LaneState(BaseModel):
    """A lane as the dispatcher sees it."""

    queue: str = Field(examples=["high_priority"])
    messages: int = Field(description="In Redis: waiting and in hand", examples=[3])
    paused: bool = Field(description="Nothing is taken off it")
    waiting: int = Field(description="Jobs that are `queued`", examples=[2])
    started: int = Field(description="Jobs that are `processing`", examples=[1])


class DispatcherState(BaseModel):
    """What the dispatcher does."""

    default_transport: TransportName
    transports: list[TransportName] = Field(description="Those that are configured")
    transports_in_use: list[TransportName] = Field(description="Those that new jobs take")
    circuits: list[CircuitView] = Field(description="What this process knows to be at fault")
    waiting: dict[str, int] = Field(
        description="Jobs that wait in their rows: `retry` for their next try, `run_at` for their "
        "time to begin, the others for a dependency at fault",
        examples=[{"sqs": 12}],
    )
    lanes: dict[Lane, LaneState]


class Dispatcher:
    """Everything that runs in the process."""

    def __init__(self, settings: DispatcherSettings) -> None:
        """Put the parts together; nothing runs before `start`.

        Raises:
            TypeError, ValueError: an installed package declares a target wrongly.
        """
        target_contracts()
        self.settings = settings
        self.database = Database(settings, application_name="headrace-dispatcher")
        self.broker: LaneBroker = make_lane_broker(settings)
        self._store = JobStore(
            self.database,
            EventPublisher(redis_client(settings)),
            retention=settings.job_retention,
        )
        self.transports = make_transports(settings)
        self.circuits = Circuits(settings.circuit_policy)
        self.rollout = RolloutProcess(self.database, self.transports, self.circuits, settings)
        self.routing: Routing = self.rollout.routing
        self.gate = self.broker.gate = Gate(self.database, self.circuits, self.routing)
        self.bridge = Bridge(
            self.transports,
            self._store,
            self.routing,
            self.circuits,
            linger_seconds=settings.batch_linger_seconds,
            senders=settings.batch_senders,
        )
        self._dispatching = Dispatching(
            self.database,
            self._store,
            self.bridge,
            self.routing,
            self.circuits,
            self.gate,
            settings,
        )
        self.worker = EmbeddedWorker(
            self.broker,
            queues=register_actors(self.broker, self._dispatching),
            threads=settings.dispatcher_threads,
        )
        self.sweep = Sweep(self.database, self._store, self.make_asking(), self.broker, settings)
        self.chores = make_chores(self.database, self.sweep, settings)
        dead_after = settings.dramatiq_heartbeat_timeout_seconds
        self._performing_broker = make_broker(settings)
        self.performer = Performing(
            self.database,
            self._store,
            self.broker,
            Firings(self.database, dead_after_seconds=dead_after),
            stream=settings.redis_stream,
        ).make_worker(self._performing_broker)
        self.due = DueJobs(
            self.database,
            self._store,
            self.broker,
            self.circuits,
            poll_seconds=settings.retry_poll_seconds,
        )
        self.dead_letters = DeadLetters(
            self.database, self._store, self.broker, settings, self._ask_once_more
        )
        self.queues = Queues(
            self.database,
            self.broker.client,
            namespace=self.broker.namespace,
            stream=settings.redis_stream,
        )
        built_in = built_in_schedules(settings)
        self.scheduler = Scheduler(
            self.database,
            self.broker,
            settings,
            at_election=[lambda session: seed_built_in(session, built_in)],
        )
        #: Everything that is done again and again beside the lanes.
        self.repeaters = [
            Repeater("paused_stream", self.queues.mirror),
            *self.dead_letters.repeaters,
            Repeater("gate", self.gate.look),
            Repeater("due_jobs", self.due.step),
            Repeater("queue_depths", self._depths().step),
            Repeater("sqs_depths", self._sqs_depths().step),
        ]

    def _depths(self) -> Depths:
        client, namespace = self.broker.client, self.broker.namespace
        return Depths(self.database, self.queues, client, namespace=namespace)

    def _sqs_depths(self) -> SqsDepths:
        client, namespace = self.broker.client, self.broker.namespace
        return SqsDepths(self.settings, client, namespace=namespace)

    def make_asking(self) -> AskingAgain:
        """Make what sends jobs again, for one thread."""
        return AskingAgain(self._dispatching, self._store, self.database)

    def _ask_once_more(self, job: Job) -> "Future[Receipt] | None":
        return self._dispatching.send_again(job, claim=lambda: True)

    def start(self) -> None:
        """Start taking jobs, once it is known which lanes are paused, if that can be known."""
        _warn_of(self.settings)
        self.gate.look()
        self.rollout.start(self.make_asking)
        if self.settings.takes_jobs:
            self.worker.start()
            self.chores.start()
            self.performer.start()
        self.scheduler.start()
        for repeater in self.repeaters:
            repeater.start()

    def stop(self) -> None:
        """Finish what is in hand, hand the rest back, and close every connection."""
        for repeater in self.repeaters:
            repeater.ask_to_stop()
        # Another leads while this process ends.
        self.scheduler.stop()
        if self.settings.takes_jobs:
            self.chores.ask_to_stop()
            self.worker.stop(grace_seconds=self.settings.shutdown_grace_seconds)
            self.performer.stop(grace_seconds=_STEP_GRACE_SECONDS)
            self.chores.stop(grace_seconds=_STEP_GRACE_SECONDS)
        until = time.monotonic() + _STEP_GRACE_SECONDS
        for repeater in self.repeaters:
            repeater.join(timeout_seconds=max(0.0, until - time.monotonic()))
        self.rollout.stop()
        self.bridge.close()
        self.dead_letters.close()
        self._performing_broker.close()
        self.broker.close()
        self.database.close()

    def worker_checks(self) -> list[Check]:
        """Return the checks of what takes messages, if this process does."""
        if not self.settings.takes_jobs:
            return []
        return [
            Check("worker", self.worker.check),
            Check("chores", self.chores.check),
            Check("performer", self.performer.check),
        ]

    def lane_messages(self, lane: Lane) -> int:
        """Return how many messages Redis holds for `lane`."""
        key = f"{self.broker.namespace}:{lane.queue_name}.msgs"
        return int(self.broker.client.hlen(key))


def _warn_of(settings: DispatcherSettings) -> None:
    if settings.circuit_failures <= settings.job_max_retries + 1:
        log.warning(
            "dispatcher.circuit_opens_early",
            hint="one job that makes a server fail opens its circuit: CIRCUIT_FAILURES should be "
            "above JOB_MAX_RETRIES + 1",
            circuit_failures=settings.circuit_failures,
            job_max_retries=settings.job_max_retries,
        )


def make_lane_broker(settings: DispatcherSettings) -> LaneBroker:
    """Make the broker whose consumers respect the lanes."""
    broker = make_broker(
        settings, time_limit_seconds=settings.job_stage_timeout_seconds, broker_class=LaneBroker
    )
    assert isinstance(broker, LaneBroker)  # noqa: S101 - it makes what it is told to
    return broker


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
            *dispatcher.worker_checks(),
            *dispatcher.scheduler.checks(),
            Check("bridge", dispatcher.bridge.check),
            *(Check(repeater.name, repeater.check_alive) for repeater in dispatcher.repeaters),
            *dispatcher.rollout.checks(),
        ],
        ready=[
            Check("database", dispatcher.database.ping),
            Check("redis", dispatcher.broker.client.ping),
            Check("scheduler", dispatcher.scheduler.check, required=False),
            *(
                Check(circuit.dependency, circuit_check(circuit), required=False)
                for circuit in dispatcher.circuits.outside()
            ),
        ],
        lifespan=lifespan,
    )
    app.state.authenticator = Authenticator(dispatcher.database, legacy_open=False)
    app.include_router(dead_letters_router(dispatcher.database))
    app.include_router(audit_router(dispatcher.database))
    app.include_router(queues_router(dispatcher.queues))
    for router in scheduling_routers(dispatcher.database):
        app.include_router(router)

    app.include_router(dispatcher.rollout.router())

    @app.get("/state", tags=["dispatcher"], responses=responses())
    def state(_caller: Annotated[Principal, Depends(requires(Scope.JOBS_READ))]) -> DispatcherState:
        """What the dispatcher does, lane by lane."""
        with dispatcher.database.begin() as session:
            counts = JobQueries(session).lane_counts()
            found = open_jobs(session)
        return DispatcherState(
            default_transport=TransportName.SQS if settings.use_sqs_queue else TransportName.HTTP,
            transports=[transport.name for transport in dispatcher.transports],
            transports_in_use=sorted(dispatcher.routing.in_use()),
            circuits=dispatcher.circuits.views(),
            waiting=waiting(found),
            lanes={
                lane: LaneState(
                    queue=lane.queue_name,
                    paused=lane.queue_name in dispatcher.gate.paused,
                    messages=dispatcher.lane_messages(lane),
                    waiting=counts[lane].waiting,
                    started=counts[lane].started,
                )
                for lane in Lane
            },
        )

    return app
