"""Jobs whose wait is over get a message: again after a try, or the first one at their time.

Every dispatcher looks, and none waits for another's locks: what one has taken the others skip.
The row is changed before the message is sent. If that is not sent, because Redis is away or the
process dies between the two, the row says again that it waits, or the sweep finds it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

import structlog
from dramatiq.brokers.redis import RedisBroker
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram
from sqlalchemy import text

from headrace_common.broker import QueueUnavailableError, new_message, send
from headrace_common.circuit import CircuitState
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Database
from headrace_common.jobs import Change, JobStore
from headrace_common.telemetry import continue_trace
from headrace_common.telemetry.metrics import from_zero
from headrace_common.telemetry.trace import note_status
from headrace_dispatcher.circuits import Circuits
from headrace_dispatcher.retries import MAX_DELAY_SECONDS

log = structlog.get_logger()

#: Jobs that are taken at once.
_BATCH: Final = 100
#: Jobs that wait for what answers again, and are let go at once.
_RELEASE_BATCH: Final = 1_000
#: Nobody is told to wait longer than half of this: the clock of whoever said so was wrong.
_LONGEST_WAIT: Final = timedelta(seconds=4 * MAX_DELAY_SECONDS)
#: Until another try to send what Redis did not take.
_UNSENT_SECONDS: Final = 1.0

_DUE: Final = Counter(
    "headrace_jobs_due_total", "Jobs that got a message after their wait", ["lane"]
)
from_zero(_DUE, Lane)
_LAG: Final = Histogram(
    "headrace_scheduled_job_lag_seconds",
    "From the time at which a job was to begin until it was queued",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 600, 3_600),
)

# No event: the timeline tells why a job waits, and then that it was picked up.
_TAKE: Final = text("""
WITH due AS (
    SELECT id FROM jobs
    WHERE retry_at IS NOT NULL AND (retry_at <= now() OR retry_at > now() + :longest)
      AND kind = 'audio_analysis' AND status IN ('queuing', 'queued', 'processing')
    ORDER BY retry_at, id LIMIT :most
    FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET queue_message_id = gen_random_uuid()::text, retry_at = NULL,
    stage_entered_at = clock_timestamp(), updated_at = clock_timestamp()
FROM due WHERE jobs.id = due.id
RETURNING jobs.id, jobs.lane, jobs.queue_message_id, jobs.trace
""")
_TAKE_SCHEDULED: Final = text("""
SELECT id, lane, trace, extract(epoch FROM clock_timestamp() - run_at) AS lag
FROM jobs WHERE status = 'scheduled' AND run_at <= now()
ORDER BY run_at, id LIMIT :most
FOR UPDATE SKIP LOCKED
""")
# Only what nobody has touched since: its message is the one that was not sent.
_PUT_BACK: Final = text("""
UPDATE jobs SET retry_at = now() + make_interval(secs => :seconds)
WHERE id = ANY(:ids) AND queue_message_id = ANY(:message_ids) AND retry_at IS NULL
  AND status IN ('queuing', 'queued', 'processing')
""")
# In batches: an outage may leave more rows than one statement changes in its time.
_RELEASE: Final = text("""
WITH waiting AS (
    SELECT id FROM jobs
    WHERE waiting_for = ANY(:dependencies) AND retry_at > now() + make_interval(secs => :spread)
      AND kind = 'audio_analysis' AND status IN ('queuing', 'queued', 'processing')
    ORDER BY retry_at, id LIMIT :most
    FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET retry_at = now() + random() * make_interval(secs => :spread)
FROM waiting WHERE jobs.id = waiting.id
RETURNING jobs.id
""")


@dataclass(frozen=True)
class _DueJob:
    id: str
    lane: Lane
    message_id: str
    trace: dict[str, str]
    #: Whether it was scheduled, and is queued for the first time.
    begins: bool = False


class DueJobs:
    """Finds jobs whose `retry_at` or `run_at` has come. Its `step` is for one thread."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        broker: RedisBroker,
        circuits: Circuits,
        *,
        poll_seconds: float,
    ) -> None:
        """Look every `poll_seconds`; nothing happens before the first step."""
        self._database = database
        self._store = store
        self._broker = broker
        self._circuits = circuits
        self._poll_seconds = poll_seconds
        self._at_fault: frozenset[str] = frozenset()
        self._releasing: frozenset[str] = frozenset()

    def step(self) -> float:
        """Queue one batch of jobs that are due, of each sort.

        Returns:
            Seconds until the next step: none while there is more.
        """
        self._release()
        is_more = bool(self._releasing)
        # What is taken is sent before anything else may fail.
        for take in (self._take, self._take_scheduled):
            jobs = take()
            if not self._send_all(jobs):
                return _UNSENT_SECONDS
            is_more = is_more or len(jobs) == _BATCH
        return 0.0 if is_more else self._poll_seconds

    def _send_all(self, jobs: Sequence[_DueJob]) -> bool:
        """Send their messages; False where Redis is away, and the others wait on."""
        for index, job in enumerate(jobs):
            try:
                self._send(job)
            except QueueUnavailableError as error:
                self._put_back(jobs[index:])
                log.warning("dispatcher.due_postponed", jobs=len(jobs) - index, error=str(error))
                return False
        if jobs:
            log.info("dispatcher.due_queued", jobs=len(jobs))
        return True

    def _take(self) -> list[_DueJob]:
        with self._database.begin() as session:
            rows = session.execute(_TAKE, {"longest": _LONGEST_WAIT, "most": _BATCH}).all()
        return [_DueJob(row.id, Lane(row.lane), row.queue_message_id, row.trace) for row in rows]

    def _take_scheduled(self) -> list[_DueJob]:
        with self._database.begin() as session:
            rows = session.execute(_TAKE_SCHEDULED, {"most": _BATCH}).all()
            jobs = [
                _DueJob(row.id, Lane(row.lane), str(uuid4()), row.trace, begins=True)
                for row in rows
            ]
            outcomes = self._store.apply_in(session, [_begun(job) for job in jobs]) if jobs else []
        self._store.publish(outcomes)
        for row in rows:
            _LAG.observe(max(float(row.lag), 0.0))
        return jobs

    def _send(self, job: _DueJob) -> None:
        with continue_trace(job.trace, "queue due job", kind=SpanKind.INTERNAL, job_id=job.id):
            if job.begins:
                note_status(job.id, JobStatus.QUEUED)
            message = new_message(
                dispatch_actor(job.lane),
                job.lane.queue_name,
                DispatchJob(job_id=job.id),
                message_id=job.message_id,
            )
            send(self._broker, message)
        _DUE.labels(lane=job.lane).inc()

    def _put_back(self, jobs: Sequence[_DueJob]) -> None:
        with self._database.begin() as session:
            session.execute(
                _PUT_BACK,
                {
                    "ids": [job.id for job in jobs],
                    "message_ids": [job.message_id for job in jobs],
                    "seconds": _UNSENT_SECONDS,
                },
            )

    def _release(self) -> None:
        """Let those go on soon that wait for a dependency which answers again."""
        at_fault = frozenset(
            view.dependency
            for view in self._circuits.views()
            if view.state is not CircuitState.CLOSED
        )
        self._releasing = (self._releasing | self._at_fault) - at_fault
        self._at_fault = at_fault
        if self._releasing and self._let_go(self._releasing) < _RELEASE_BATCH:
            self._releasing = frozenset()

    def _let_go(self, dependencies: Collection[str]) -> int:
        asked = {"dependencies": list(dependencies), "spread": 1.0, "most": _RELEASE_BATCH}
        with self._database.begin() as session:
            return len(session.execute(_RELEASE, asked).all())


def _begun(job: _DueJob) -> Change:
    return Change(
        job_id=job.id,
        to=JobStatus.QUEUED,
        message="Its time has come: waiting in the queue",
        queue_message_id=job.message_id,
        only_from=frozenset({JobStatus.SCHEDULED}),
    )
