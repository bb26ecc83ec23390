"""Everything this process is made of; it connects to nothing until it is started."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread

from headrace_common.broker import make_broker
from headrace_common.chores import ChoreWorker
from headrace_common.contracts import APPLY_REPORT_QUEUE
from headrace_common.db import Database
from headrace_common.jobs import EventPublisher, JobStore
from headrace_common.redis_client import redis_client
from headrace_common.repeat import Repeater
from headrace_common.sqs import sqs_client
from headrace_common.storage import s3_signing_client
from headrace_common.web import Check
from headrace_common.worker import EmbeddedWorker
from headrace_results.actors import ReportQueue, register_actors
from headrace_results.applier import ReportApplier
from headrace_results.artifacts import ArtifactUrls, JobArtifacts
from headrace_results.cameras.links import SwiftLinks
from headrace_results.cameras.process import Cameras
from headrace_results.hub import Hub, HubLimits
from headrace_results.reader import JobReader
from headrace_results.result_queue import ResultQueueConsumer
from headrace_results.settings import ResultsSettings
from headrace_results.shadow import ShadowComparer, tolerance_of
from headrace_results.stream import EventStreams
from headrace_results.sweep import Sweep
from headrace_results.webhook import WebhookReceiver

#: What a chore under way gets to come to its end, once all others have.
_CHORE_GRACE_SECONDS: Final = 5.0


class ResultsProcess:
    """The parts of the service, and their start and stop."""

    def __init__(self, settings: ResultsSettings) -> None:
        """Put the parts together."""
        self._settings = settings
        self._redis = redis_client(settings)
        self._broker = make_broker(settings)
        self.database = Database(settings, application_name="headrace-results")
        self._queue = ReportQueue(self._broker)
        self.receiver = WebhookReceiver(self.database, self._queue, settings)
        self.artifacts = JobArtifacts(_artifact_urls(settings), SwiftLinks(settings))
        self._reader = JobReader(self.database, threads=settings.sse_database_threads)
        self._hub = _hub(settings, self._reader)
        self.streams = EventStreams(self._hub, self._reader, max_seconds=settings.sse_max_seconds)
        store = JobStore(
            self.database, EventPublisher(self._redis), retention=settings.job_retention
        )
        tolerance = tolerance_of(settings)
        applier = ReportApplier(
            self.database, store, max_attempts=settings.inbox_max_attempts, tolerance=tolerance
        )
        shadows = ShadowComparer(
            self.database, tolerance, interval_seconds=settings.inbox_sweep_seconds
        )
        register_actors(self._broker, applier)
        self._worker = EmbeddedWorker(
            self._broker, queues={APPLY_REPORT_QUEUE}, threads=settings.results_worker_threads
        )
        self._cameras = (
            Cameras(settings, self._redis, self.database, store, self._queue)
            if settings.cctv_enabled
            else None
        )
        self._chores = (
            ChoreWorker(settings, self.database, self._cameras.chores()) if self._cameras else None
        )
        self._repeaters = [self._sweep(applier, shadows), *self._result_queue()]
        if self._cameras is not None:
            self._repeaters += self._cameras.repeaters
        self._listening: asyncio.Task[None] | None = None

    def alive(self) -> list[Check]:
        """Return the checks of what must run in this process."""
        return [
            Check("report_worker", self._worker.check),
            *([Check("chores", self._chores.check)] if self._chores else ()),
            Check("event_hub", self._check_hub),
            *(Check(repeater.name, repeater.check_alive) for repeater in self._repeaters),
        ]

    def ready(self) -> list[Check]:
        """Return the checks of the servers around it; only the database must be up."""
        return [
            Check("database", self.database.ping),
            Check("redis", self._redis.ping, required=False),
            *(
                Check(f"{repeater.name}_works", repeater.check_working, required=False)
                for repeater in self._repeaters
            ),
        ]

    @asynccontextmanager
    async def running(self, stopping: asyncio.Event) -> AsyncIterator[None]:
        """Run the parts. At the end, work under way gets SHUTDOWN_GRACE_SECONDS to finish."""
        self._listening = asyncio.create_task(self._hub.run(stopping), name="event-hub")
        try:
            await to_thread.run_sync(self._start_threads)
            yield
        finally:
            await to_thread.run_sync(self._stop_threads)
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            await to_thread.run_sync(self._close)

    def _start_threads(self) -> None:
        self._worker.start()
        if self._chores is not None:
            self._chores.start()
        for repeater in self._repeaters:
            repeater.start()

    def _stop_threads(self) -> None:
        grace = self._settings.shutdown_grace_seconds
        for repeater in self._repeaters:
            repeater.ask_to_stop()
        if self._chores is not None:
            self._chores.ask_to_stop()
        self._worker.stop(grace_seconds=grace)
        if self._chores is not None:
            self._chores.stop(grace_seconds=_CHORE_GRACE_SECONDS)
        for repeater in self._repeaters:
            repeater.join(timeout_seconds=grace)

    def _close(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
        self._broker.close()
        self._redis.close()
        self.database.close()

    def _check_hub(self) -> None:
        if self._listening is None or self._listening.done():
            raise RuntimeError("the event hub has ended")

    def _sweep(self, applier: ReportApplier, shadows: ShadowComparer) -> Repeater:
        sweep = Sweep(
            self.database,
            applier,
            retry_seconds=self._settings.inbox_retry_seconds,
            interval_seconds=self._settings.inbox_sweep_seconds,
        )
        # One after the other, so that they take one connection.
        return Repeater("sweep", lambda: min(sweep.step(), shadows.step()))

    def _result_queue(self) -> list[Repeater]:
        if self._settings.sqs_result_queue_url is None:
            return []
        consumer = ResultQueueConsumer(
            sqs_client(self._settings),
            self.database,
            self._queue,
            queue_url=self._settings.sqs_result_queue_url,
            wait_seconds=self._settings.sqs_result_wait_seconds,
        )
        return [Repeater("result_queue", consumer.step)]


def _artifact_urls(settings: ResultsSettings) -> ArtifactUrls:
    client = s3_signing_client(settings)
    return ArtifactUrls(client, settings, seconds=settings.artifact_url_seconds)


def _hub(settings: ResultsSettings, reader: JobReader) -> Hub:
    limits = HubLimits(
        max_clients=settings.sse_max_clients,
        queue_events=settings.sse_queue_events,
        poll_seconds=settings.sse_poll_seconds,
        safety_poll_seconds=settings.sse_safety_poll_seconds,
    )
    return Hub(settings, reader, limits)
