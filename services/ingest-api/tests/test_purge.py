"""Jobs go when their retention is over, with all that is stored of them, and no others do."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ingest_harness import Backend
from pydantic import JsonValue
from sqlalchemy import func, select, update

from headrace_common.circuit import CircuitBreaker, CircuitPolicy
from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.contracts.analysis import ARTIFACTS_EXPIRED, results_folder
from headrace_common.contracts.cctv import SettledJob
from headrace_common.db import InboxReport, Job, JobEventRow, ShadowRun
from headrace_common.jobs import Change, NewJob
from headrace_common.jobs.restart import MediaDiscardedError, plan_restart
from headrace_common.shifts import Shift, Shifts
from headrace_ingest_api.cleaning.camera_sets import CameraSets
from headrace_ingest_api.cleaning.expiring import Expiring
from headrace_ingest_api.cleaning.purge import Purge
from headrace_ingest_api.cleaning.stored import own_recording, remove_results
from headrace_ingest_api.naming import recordings_folder

DAY = timedelta(days=1)
pytestmark = pytest.mark.stack


def a_shift() -> Shift:
    return Shifts(seconds=60).begin()


class Yard:
    """Finished jobs, and what is stored of them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.breaker = CircuitBreaker("s3", CircuitPolicy())
        self.stream = f"stream:{uuid.uuid4().hex[:8]}"
        self.client = backend.s3
        self.today = recordings_folder(datetime.now(UTC))

    def job(
        self,
        *,
        kind: JobKind = JobKind.AUDIO_ANALYSIS,
        finished_days: float = 31,
        **fields: Any,
    ) -> str:
        """Make a job that ended so many days ago; its retention is 30 days."""
        job_id = str(uuid.uuid4())
        new = NewJob(
            id=job_id,
            kind=kind,
            lane=Lane.NORMAL,
            message="new",
            input={"s3_audio_url": self.url(self.recording(job_id)), **fields},
        )
        self.backend.store.create(new)
        pitch: JsonValue = self.url(f"{results_folder(job_id)}pitch.json")
        steps = [
            Change(job_id=job_id, to=JobStatus.QUEUING, message="then"),
            Change(
                job_id=job_id,
                to=JobStatus.COMPLETED,
                message="then",
                result={"artifacts": {"pitch": pitch}},
            ),
        ]
        self.backend.store.apply(steps)
        ago = timedelta(days=finished_days)
        self.change(job_id, finished_at=Job.finished_at - ago, retain_until=Job.retain_until - ago)
        return job_id

    def change(self, job_id: str, **values: Any) -> None:
        with self.backend.database.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(**values))

    def url(self, key: str) -> str:
        return f"s3://{self.backend.bucket}/{key}"

    def recording(self, job_id: str) -> str:
        return f"{self.today}{job_id}.wav"

    def put(self, *keys: str) -> None:
        for key in keys:
            self.backend.s3.put_object(Bucket=self.backend.bucket, Key=key, Body=b"x")

    def has(self, key: str) -> bool:
        return self.backend.object(self.url(key)) is not None

    def exists(self, job_id: str) -> bool:
        with self.backend.database.begin() as session:
            return session.get(Job, job_id) is not None

    def purge(self) -> dict[str, Any]:
        purge = Purge(
            self.backend.database,
            self.client,
            self.breaker,
            CameraSets(self.backend.redis, stream=self.stream, again_seconds=0),
            bucket=self.backend.bucket,
            retry_seconds=0,
        )
        return purge.run(a_shift())

    def expire(self, keep: timedelta | None) -> dict[str, Any]:
        expiring = Expiring(
            self.backend.database,
            self.client,
            self.breaker,
            bucket=self.backend.bucket,
            keep=keep,
            keep_copies=DAY,
        )
        return expiring.run(a_shift())


class AwayOnce:
    """An S3 client whose next removals are refused."""

    def __init__(self, client: Any, error: Exception) -> None:
        self._client = client
        self.error: Exception | None = error

    def delete_object(self, **asked: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self._client.delete_object(**asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.fixture
def yard(backend: Backend) -> Yard:
    made = Yard(backend)
    # What is due of other tests would be counted with what is due here.
    made.purge()
    made.expire(7 * DAY)
    return made


def test_a_recording_is_a_jobs_own_if_its_key_says_so() -> None:
    url = "s3://media/audio/2026/11/26/job-1.wav"
    assert own_recording("job-1", url, "media") is not None
    for job_id, other, bucket in (
        ("job-1", url, "another"),
        ("job-2", url, "media"),
        ("job-1", "s3://media/imported/job-1.wav", "media"),
        ("job-1", "nonsense", "media"),
        ("job-1", None, "media"),
    ):
        assert own_recording(job_id, other, bucket) is None


def test_a_job_goes_with_all_that_is_stored_of_it_and_no_other_does(yard: Yard) -> None:
    due, young = yard.job(), yard.job(finished_days=29)
    anew = yard.job()
    yard.change(anew, status="queued", finished_at=None, retain_until=None)
    for job_id in (due, young, anew):
        yard.put(yard.recording(job_id), f"{results_folder(job_id)}pitch.json")
    copy, neighbour = f"{results_folder(due + '.shadow')}a", f"{results_folder(due + 'x')}a"
    yard.put(copy, neighbour)
    with yard.backend.database.begin() as session:
        session.add(ShadowRun(job_id=due, transport="http"))
        for job_id in (due, f"{due}.shadow", young):
            session.add(
                InboxReport(
                    dedup_key=str(uuid.uuid4()), job_id=job_id, source="webhook", payload={}
                )
            )
    assert yard.purge()["audio_jobs"] == 1
    assert [yard.exists(each) for each in (due, young, anew)] == [False, True, True]
    for job_id, stays in ((due, False), (young, True), (anew, True)):
        assert yard.has(yard.recording(job_id)) is stays
        assert yard.has(f"{results_folder(job_id)}pitch.json") is stays
    assert (yard.has(copy), yard.has(neighbour)) == (False, True)
    with yard.backend.database.begin() as session:
        for table in (JobEventRow, ShadowRun, InboxReport):
            rows = select(func.count()).where(table.job_id.startswith(due))
            assert session.scalar(rows) == 0
        kept = select(func.count()).where(InboxReport.job_id == young)
        assert session.scalar(kept) == 1
    assert yard.purge()["audio_jobs"] == 0


def test_a_half_purged_job_is_not_taken_for_whole_and_goes_next_time(yard: Yard) -> None:
    job_id = yard.job()
    yard.put(yard.recording(job_id), f"{results_folder(job_id)}pitch.json")
    refused = yard.client.exceptions.ClientError(
        {"Error": {"Code": "503"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "DeleteObject"
    )
    yard.client = away = AwayOnce(yard.backend.s3, refused)
    assert yard.purge()["audio_jobs"] == 0
    job = yard.backend.job(job_id)
    assert job.discard_at is not None
    with pytest.raises(MediaDiscardedError):
        plan_restart(job, message="again")
    away.error = None
    assert yard.purge()["audio_jobs"] == 1
    assert not yard.exists(job_id)
    assert not yard.has(yard.recording(job_id))


def test_while_s3_is_at_fault_nothing_is_touched(yard: Yard) -> None:
    job_id = yard.job()
    yard.breaker.failed("away", retry_after=20)
    assert yard.purge()["audio_jobs"] == 0
    assert yard.backend.job(job_id).discard_at is None
    yard.breaker.succeeded()
    assert yard.purge()["audio_jobs"] == 1


def test_a_camera_job_goes_once_swift_has_nothing_of_it(yard: Yard) -> None:
    job_id = yard.job(kind=JobKind.CCTV_PREPROCESS, cctv_id="gate-3")
    unknown = yard.job(kind=JobKind.CCTV_PREPROCESS)
    settled, redis = f"{yard.stream}:settled", yard.backend.redis
    for _ in range(2):
        yard.purge()
        told: Any = redis.zrange(settled, 0, -1)
        jobs = [
            job
            for job in map(SettledJob.model_validate_json, told)
            if job.job_id in {job_id, unknown}
        ]
        assert [(each.job_id, each.cctv_id, each.purged) for each in jobs] == [
            (job_id, "gate-3", True)
        ]
        assert yard.exists(job_id)
        redis.delete(settled)  # as after a flush: the job is told again
    assert not yard.exists(unknown), "no worker can have had it"
    redis.zadd(f"{yard.stream}:purged", {job_id: datetime.now(UTC).timestamp() * 1_000})
    assert yard.purge()["camera_jobs"] == 1
    assert not yard.exists(job_id)
    assert redis.exists(f"{yard.stream}:purged") == 0


def test_artefacts_go_before_their_job_where_they_are_to(yard: Yard) -> None:
    old, young = yard.job(finished_days=8), yard.job(finished_days=6)
    for job_id in (old, young):
        yard.put(yard.recording(job_id), f"{results_folder(job_id)}pitch.json")
    assert yard.expire(None) == {"jobs": 0, "copies": 0}
    assert yard.expire(7 * DAY)["jobs"] >= 1, "other tests have left some"
    job = yard.backend.job(old)
    assert job.meta[ARTIFACTS_EXPIRED]["run"] == 1
    assert job.result == {}
    assert yard.backend.job(young).result != {}
    assert yard.has(yard.recording(old)), "the recording stays with the job"
    assert yard.expire(7 * DAY)["jobs"] == 0


def test_what_a_later_run_has_stored_stays(yard: Yard) -> None:
    bucket, now = yard.backend.bucket, datetime.now(UTC)
    job_id = str(uuid.uuid4())
    key = f"{results_folder(job_id)}pitch.json"
    yard.put(key, f"{results_folder(job_id)}plot.png")
    assert remove_results(yard.backend.s3, bucket, job_id, before=now - DAY) == 0
    assert yard.has(key)
    assert remove_results(yard.backend.s3, bucket, job_id, before=now + DAY) == 2
    assert not yard.has(key)


def test_artefacts_of_a_copy_go_once_it_was_compared(yard: Yard) -> None:
    compared, waiting = yard.job(finished_days=8), yard.job(finished_days=8)
    with yard.backend.database.begin() as session:
        for job_id, same in ((compared, True), (waiting, None)):
            session.add(
                ShadowRun(
                    job_id=job_id,
                    transport="http",
                    answered_at=datetime.now(UTC) - 2 * DAY,
                    result={"artifacts": {"pitch": "x"}, "score": 1},
                    same=same,
                )
            )
    assert yard.expire(None) == {"jobs": 0, "copies": 1}
    with yard.backend.database.begin() as session:
        assert session.get_one(ShadowRun, compared).result == {"score": 1}
        assert "artifacts" in (session.get_one(ShadowRun, waiting).result or {})
    assert yard.expire(None)["copies"] == 0
