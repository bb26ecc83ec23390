import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from ingest_harness import Backend

from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, EventPublisher, JobQueries, JobStore, NewJob
from headrace_ingest_api import watch
from headrace_ingest_api.errors import KeyInUseError, UploadOvertakenError
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys
from headrace_ingest_api.watch import UploadWatch
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

DAY = timedelta(days=1)


@pytest.fixture
def store(database: Database, backend: Backend) -> JobStore:
    return JobStore(database, EventPublisher(backend.redis), retention=DAY)


@pytest.fixture
def job_id(store: JobStore) -> str:
    made = str(uuid.uuid4())
    store.create(NewJob(id=made, kind=JobKind.AUDIO_ANALYSIS, lane=Lane.NORMAL, message="test"))
    return made


def job(database: Database, job_id: str) -> Job:
    with database.begin() as session:
        return JobQueries(session).get(job_id)


def run_until(looks: UploadWatch, seen: Callable[[], bool]) -> None:
    async def run() -> None:
        async with looks.watching():
            await asyncio.to_thread(wait_until, seen)

    asyncio.run(run())


def test_a_long_upload_shows_that_it_lives_and_keeps_its_key(
    database: Database, store: JobStore, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watch, "SIGN_OF_LIFE_SECONDS", 0.1)
    short = IdempotencyKeys(database, keep=DAY, claim_seconds=0)
    claim = Claim("s", "k", job_id)
    assert short.claim(claim) is None
    begun = job(database, job_id).stage_entered_at
    looks = UploadWatch(
        database, store, IdempotencyKeys(database, keep=DAY), job_id=job_id, claim=claim
    )
    looks.received = 5 * 2**20
    run_until(looks, lambda: job(database, job_id).event_sequence > 1)
    looks.check()
    after = job(database, job_id)
    assert (after.status, after.progress) == ("uploading", 10)
    assert after.stage_entered_at > begun
    assert "5 MiB" in after.message
    with database.begin() as session:
        [_, sign, *_] = JobQueries(session).events_after(job_id, 0)
    assert sign.data == {"bytes_received": 5 * 2**20}
    with pytest.raises(KeyInUseError):
        short.claim(Claim("s", "k", "another"))


def test_a_job_that_ended_is_noticed(
    database: Database, store: JobStore, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)
    keys = IdempotencyKeys(database, keep=DAY)
    looks = UploadWatch(database, store, keys, job_id=job_id, claim=None)
    looks.check()
    store.apply([Change(job_id=job_id, to=JobStatus.CANCELLED, message="test")])

    def noticed() -> bool:
        try:
            looks.check()
        except UploadOvertakenError as error:
            return error.extra["job_status"] == "cancelled"
        return False

    run_until(looks, noticed)
