"""Jobs that are begun anew: the next run in the row, then what tells a worker of it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy.orm import Session

from headrace_common.broker import make_broker
from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.jobs.cameras import camera_input
from headrace_common.jobs.restart import JobRestarts, NotAcceptedError
from headrace_common.redis_client import redis_client
from headrace_common.settings import RedisSettings
from headrace_local.pytest_plugin import LocalServers


class Bench:
    """Jobs, a broker, and a stream of the test's own."""

    def __init__(self, database: Database, settings: RedisSettings) -> None:
        self.database = database
        self.broker: RedisBroker = make_broker(settings)
        self.stream = f"stream:{uuid4()}"
        publisher = EventPublisher(redis_client(settings))
        self.store = JobStore(database, publisher, retention=timedelta(days=1))
        self.restarts = JobRestarts(database, self.store, self.broker, stream=self.stream)

    def job(self, kind: JobKind, *steps: JobStatus, entry: PreprocessEntry | None = None) -> str:
        job_id = f"job-{uuid4()}"
        kept = camera_input(entry) if entry else {}
        self.store.create(NewJob(id=job_id, kind=kind, lane=Lane.HIGH, message="", input=kept))
        self.store.apply([Change(job_id=job_id, to=step, message="") for step in steps])
        return job_id

    def restart(self, job_id: str) -> bool:
        with self.database.begin() as session:
            job = self._locked(session, job_id)
            restart, outcome = self.restarts.begin_in(session, job, message="Once more")
        assert outcome.applied
        return self.restarts.send(restart)

    def load(self, job_id: str) -> Job:
        with self.database.begin() as session:
            return self._locked(session, job_id)

    @staticmethod
    def _locked(session: Session, job_id: str) -> Job:
        job = session.get(Job, job_id, with_for_update=True)
        assert job is not None
        return job


@pytest.fixture
def bench(database: Database, local_servers: LocalServers) -> Iterator[Bench]:
    settings = RedisSettings.model_validate(
        {
            "redis_url": local_servers.redis_url,
            "redis_password": local_servers.redis_password,
            "dramatiq_namespace": f"test-{uuid4().hex}",
        }
    )
    made = Bench(database, settings)
    yield made
    made.broker.client.delete(made.stream)
    made.broker.close()


def test_a_failed_audio_job_goes_onto_its_lane_in_its_next_run(bench: Bench) -> None:
    job_id = bench.job(JobKind.AUDIO_ANALYSIS, JobStatus.QUEUING, JobStatus.FAILED)
    assert bench.restart(job_id)
    job = bench.load(job_id)
    assert (job.status, job.run, job.finished_at) == ("queued", 2, None)
    held = f"{bench.broker.namespace}:high_priority.msgs"
    assert job.queue_message_id is not None
    assert bench.broker.client.hexists(held, job.queue_message_id), "the sweep must know it"


def test_a_failed_camera_job_goes_onto_the_stream_from_its_first_attempt(bench: Bench) -> None:
    entry = PreprocessEntry.parse(
        {"cctvId": "c", "hls": "http://h/a.m3u8", "sec": "2", "attempt": "3", "enqueuedAt": "1"}
    )
    job_id = bench.job(JobKind.CCTV_PREPROCESS, JobStatus.QUEUING, JobStatus.CANCELLED, entry=entry)
    client: Any = bench.broker.client
    assert bench.restart(job_id)
    ((entry_id, fields),) = client.xrange(bench.stream)
    assert (fields[b"jobId"], fields[b"attempt"]) == (job_id.encode(), b"0")
    assert fields[b"jobRun"] == b"2", "what was cancelled is the first"
    job = bench.load(job_id)
    assert (job.status, job.run, job.queue_message_id) == ("queued", 2, entry_id.decode())


def test_a_job_that_begins_later_is_queued_now_in_its_first_run(bench: Bench) -> None:
    job_id = bench.job(JobKind.AUDIO_ANALYSIS, JobStatus.SCHEDULED)
    assert bench.restart(job_id)
    job = bench.load(job_id)
    assert (job.status, job.run, job.progress, job.meta) == ("queued", 1, 50, {})
    held = f"{bench.broker.namespace}:high_priority.msgs"
    assert bench.broker.client.hexists(held, str(job.queue_message_id))


@pytest.mark.parametrize("steps", [(), (JobStatus.CANCELLED,)])
def test_what_was_never_accepted_is_not_begun_anew(
    bench: Bench, steps: tuple[JobStatus, ...]
) -> None:
    job_id = bench.job(JobKind.AUDIO_ANALYSIS, *steps)
    with pytest.raises(NotAcceptedError):
        bench.restart(job_id)
    assert bench.load(job_id).run == 1
