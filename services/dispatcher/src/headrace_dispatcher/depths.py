"""How much waits and for how long, for alerts and autoscalers: rows, and messages in Redis.

The rows are the truth. A queue that has messages and no rows, or the other way round, is what the
sweep mends.
"""

from collections.abc import Collection, Iterable
from typing import Final

import redis
import structlog
from prometheus_client import Gauge

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import APPLY_REPORT_QUEUE
from headrace_common.db import Database
from headrace_common.queue_controls import paused_queues
from headrace_dispatcher.backlog import (
    RETRY,
    RUN_AT,
    OpenJobs,
    QueueBacklog,
    by_queue,
    open_jobs,
    overdue_seconds,
    waiting,
)
from headrace_dispatcher.circuits import DEPENDENCIES
from headrace_dispatcher.gate import DATABASE_AWAY
from headrace_dispatcher.queues import Queues

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 15.0
#: One that is scheduled is not late, however long ago it came in.
_AGING: Final = tuple(each for each in JobStatus.open() if each is not JobStatus.SCHEDULED)

_JOBS: Final = Gauge(
    "headrace_queue_jobs",
    "Jobs of a queue, from their rows: `waiting` for a worker, or `started`; those that are `held` "
    "for their next try or for a dependency at fault are among these",
    ["queue", "state"],
)
_OLDEST: Final = Gauge(
    "headrace_queue_oldest_age_seconds",
    "Since the job that waits longest in a queue began to; 0: there is none",
    ["queue"],
)
_PAUSED: Final = Gauge("headrace_queue_paused", "1: nothing is taken off the queue", ["queue"])
_MESSAGES: Final = Gauge(
    "headrace_queue_messages",
    "Messages in Redis: `waiting` to be fetched, `fetched` by a worker, or `delayed` until their "
    "next try",
    ["queue", "state"],
)
_OLDEST_IN_STAGE: Final = Gauge(
    "headrace_oldest_job_age_seconds",
    "Since the open audio job entered its stage that did so first; 0: there is none",
    ["status", "lane"],
)
_WAITING: Final = Gauge(
    "headrace_jobs_waiting",
    "Audio jobs that wait in their rows: for their next try, for a dependency at fault, or for the "
    "time at which they are to begin",
    ["waiting_for"],
)
_OVERDUE: Final = Gauge(
    "headrace_jobs_overdue_seconds", "Since the first job that waits should have been queued"
)


class Depths:
    """Measures what is open. Every replica does, and all say the same."""

    def __init__(
        self, database: Database, queues: Queues, client: redis.Redis, *, namespace: str
    ) -> None:
        """Make it.

        Args:
            database: has the rows.
            queues: the lanes and the stream.
            client: of the Redis with the messages.
            namespace: Dramatiq's.
        """
        self._database = database
        self._queues = queues.names
        self._redis = client
        self._namespace = namespace

    def step(self) -> float:
        """Measure, and return the seconds until the next time; keep the figures on an error."""
        try:
            self._measure_rows()
            self._measure_messages()
        except (*DATABASE_AWAY, redis.RedisError, OSError) as error:
            log.info("dispatcher.depths_not_measured", error=type(error).__name__)
        return _PAUSE_SECONDS

    def _measure_rows(self) -> None:
        with self._database.begin() as session:
            found, paused = open_jobs(session), paused_queues(session)
        self._tell_of_queues(found, paused)
        _tell_of_stages(found)
        counts = waiting(found)
        for name in (RETRY, RUN_AT, *DEPENDENCIES.values()):
            _WAITING.labels(waiting_for=name).set(counts.get(name, 0))
        _OVERDUE.set(overdue_seconds(found))

    def _tell_of_queues(self, found: Iterable[OpenJobs], paused: Collection[str]) -> None:
        backlog = by_queue(found)
        for name, lane in self._queues.items():
            queue = backlog.get(lane, QueueBacklog())
            _JOBS.labels(queue=name, state="waiting").set(queue.waiting)
            _JOBS.labels(queue=name, state="held").set(sum(queue.waits_for.values()))
            _JOBS.labels(queue=name, state="started").set(queue.started)
            _OLDEST.labels(queue=name).set(queue.oldest_seconds)
            _PAUSED.labels(queue=name).set(name in paused)

    def _measure_messages(self) -> None:
        lanes = [name for name, lane in self._queues.items() if lane is not None]
        names = [*lanes, APPLY_REPORT_QUEUE]
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                key = f"{self._namespace}:{name}"
                pipeline.llen(key)
                pipeline.hlen(f"{key}.msgs")
                pipeline.hlen(f"{key}.DQ.msgs")
            answers = [int(answer) for answer in pipeline.execute()]
        for name, unfetched, held, delayed in zip(
            names, answers[::3], answers[1::3], answers[2::3], strict=True
        ):
            _MESSAGES.labels(queue=name, state="waiting").set(unfetched)
            _MESSAGES.labels(queue=name, state="fetched").set(max(held - unfetched, 0))
            _MESSAGES.labels(queue=name, state="delayed").set(delayed)


def _tell_of_stages(found: Iterable[OpenJobs]) -> None:
    ages = dict.fromkeys(((status, lane) for status in _AGING for lane in Lane), 0.0)
    for jobs in found:
        stage = jobs.status, jobs.lane
        if jobs.kind is JobKind.AUDIO_ANALYSIS and stage in ages:
            ages[stage] = max(ages[stage], jobs.oldest_seconds)
    for (status, lane), age in ages.items():
        _OLDEST_IN_STAGE.labels(status=status, lane=lane).set(age)
