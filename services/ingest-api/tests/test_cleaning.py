import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ingest_audio import recording
from ingest_harness import Backend, IngestApi, StartApi
from sqlalchemy import func

from headrace_common.circuit import CircuitBreaker, CircuitPolicy
from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.db import Job
from headrace_common.jobs import Change, Failure, NewJob
from headrace_common.shifts import Shift, Shifts
from headrace_ingest_api.cleaning.discards import Discards
from headrace_ingest_api.cleaning.orphans import (
    Found,
    FoundKind,
    KnownJob,
    OrphanSearch,
    orphan_reason,
)
from headrace_ingest_api.idempotency import IdempotencyKeys
from headrace_ingest_api.jobs import UploadJobs
from headrace_ingest_api.naming import job_of_key, recordings_folder
from headrace_ingest_api.resources import Resources
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

stack = pytest.mark.stack

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("kind", "job", "age", "reason"),
    [
        (FoundKind.OBJECT, None, DAY / 2, None),
        (FoundKind.OBJECT, None, DAY * 2, "unknown"),
        (FoundKind.MULTIPART, None, DAY / 2, None),
        (FoundKind.MULTIPART, None, DAY * 2, "unknown"),
        (FoundKind.OBJECT, KnownJob(waits=True, was_discarded=False), DAY * 2, None),
        (FoundKind.MULTIPART, KnownJob(waits=True, was_discarded=False), DAY * 2, None),
        (FoundKind.OBJECT, KnownJob(waits=False, was_discarded=False), DAY * 2, None),
        (FoundKind.MULTIPART, KnownJob(waits=False, was_discarded=False), DAY / 2, "leftover"),
        (FoundKind.OBJECT, KnownJob(waits=False, was_discarded=True), DAY / 2, "discarded"),
        (FoundKind.MULTIPART, KnownJob(waits=False, was_discarded=True), DAY / 2, "discarded"),
    ],
)
def test_what_is_removed_and_why(
    kind: FoundKind, job: KnownJob | None, age: timedelta, reason: str | None
) -> None:
    found = Found(kind, "audio/2026/11/25/1.wav", NOW - age)
    if job is None:
        assert orphan_reason(found, job, now=NOW, unknown_after=None) is None
    assert orphan_reason(found, job, now=NOW, unknown_after=DAY) == reason


def test_a_key_names_its_job() -> None:
    assert job_of_key(f"{recordings_folder(NOW)}0199-a.wav") == "0199-a"


def a_shift() -> Shift:
    return Shifts(seconds=60).begin()


class Place:
    """Jobs and objects in the folder of today."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.folder = recordings_folder(datetime.now(UTC))

    def job(self, *changes: dict[str, Any]) -> str:
        job_id = str(uuid.uuid4())
        url = f"s3://{self.backend.bucket}/{self.key(job_id)}"
        new = NewJob(
            id=job_id,
            kind=JobKind.AUDIO_ANALYSIS,
            lane=Lane.NORMAL,
            message="new",
            input={"s3_audio_url": url},
        )
        self.backend.store.create(new)
        for change in changes:
            self.backend.store.apply([Change(job_id=job_id, message="then", **change)])
        return job_id

    def key(self, job_id: str) -> str:
        return f"{self.folder}{job_id}.wav"

    def put(self, job_id: str) -> None:
        self.backend.s3.put_object(
            Bucket=self.backend.bucket, Key=self.key(job_id), Body=b"recording"
        )

    def begin(self, job_id: str) -> None:
        self.backend.s3.create_multipart_upload(Bucket=self.backend.bucket, Key=self.key(job_id))

    def has(self, job_id: str) -> tuple[bool, bool]:
        """Return whether there are an object and a multipart upload."""
        url = f"s3://{self.backend.bucket}/{self.key(job_id)}"
        return self.backend.object(url) is not None, bool(self.backend.open_uploads(job_id))

    def search(self, unknown_after: timedelta | None = None) -> dict[str, Any]:
        search = OrphanSearch(
            self.backend.database,
            self.backend.s3,
            self.backend.bucket,
            days=2,  # midnight may come by
            unknown_after=unknown_after,
        )
        return search.run(a_shift())


@pytest.fixture
def place(backend: Backend) -> Place:
    return Place(backend)


_FAILED = {"to": JobStatus.FAILED, "failure": Failure("upload_failed", "gone")}


@stack
def test_the_search_removes_what_belongs_to_no_job_and_nothing_else(place: Place) -> None:
    open_job = place.job()
    accepted = place.job({"to": JobStatus.QUEUING}, _FAILED)
    refused = place.job(_FAILED)
    unknown = str(uuid.uuid4())
    for job_id in (open_job, accepted, refused, unknown):
        place.put(job_id)
        place.begin(job_id)
    place.search()
    assert place.has(open_job) == (True, True)
    assert place.has(accepted) == (True, False), "whatever became of it"
    assert place.has(refused) == (False, False)
    assert place.has(unknown) == (True, True)
    place.search(unknown_after=timedelta(seconds=-60))
    assert place.has(open_job) == (True, True)
    assert place.has(accepted) == (True, False)
    assert place.has(unknown) == (False, False)


@stack
def test_one_searches_at_a_time_and_a_silent_one_loses_its_lock(backend: Backend) -> None:
    with backend.database.alone(7, silent_seconds=2) as first:
        assert first is not None
        first()
        with backend.database.alone(7, silent_seconds=10) as second:
            assert second is None

        def taken_over() -> bool:
            with backend.database.alone(7, silent_seconds=10) as third:
                return third is not None

        wait_until(taken_over)
        with pytest.raises(Exception, match=r"idle-session timeout|closed"):
            first()


@stack
def test_what_an_ended_upload_left_is_removed_once_s3_is_back(
    place: Place, backend: Backend
) -> None:
    job_id = place.job(_FAILED)
    place.put(job_id)
    place.begin(job_id)
    breaker = CircuitBreaker("s3", CircuitPolicy())
    discards = Discards(
        backend.database, backend.s3, breaker, bucket=backend.bucket, retry_seconds=60
    )
    breaker.failed("away", retry_after=20)
    assert discards.run(a_shift()) == 0
    assert place.has(job_id) == (True, True)
    breaker.succeeded()

    def is_done() -> bool:
        discards.run(a_shift())
        return backend.job(job_id).discarded_at is not None

    wait_until(is_done)
    assert place.has(job_id) == (False, False)


@stack
def test_what_is_not_of_the_job_stays_and_keeps_nobody_waiting(
    place: Place, backend: Backend
) -> None:
    """A job that is being purged may name what others stored, or what is no URL at all."""
    imported = f"s3://{backend.bucket}/imported/{uuid.uuid4()}.wav"
    backend.s3.put_object(Bucket=backend.bucket, Key=imported.split("/", 3)[3], Body=b"theirs")
    marked = [place.job({"to": JobStatus.QUEUING}, _FAILED) for _ in range(2)]
    with backend.database.begin() as session:
        for job_id, url in zip(marked, (imported, "nonsense"), strict=True):
            job = session.get_one(Job, job_id)
            job.discard_at = func.clock_timestamp() - timedelta(minutes=1)
            job.input = {**job.input, "s3_audio_url": url}
    breaker = CircuitBreaker("s3", CircuitPolicy())
    Discards(backend.database, backend.s3, breaker, bucket=backend.bucket, retry_seconds=60).run(
        a_shift()
    )
    assert backend.object(imported) is not None
    assert all(backend.job(job_id).discarded_at is not None for job_id in marked)


@stack
def test_a_recording_that_was_accepted_stays_whatever_its_upload_thinks(
    place: Place, backend: Backend
) -> None:
    resources = Resources.make(backend.settings)
    jobs = UploadJobs(resources, IdempotencyKeys(resources.database, keep=DAY))
    gone = Failure("upload_failed", "the answer to the commit was lost")
    assert jobs.fail(place.job(), gone) is True
    assert jobs.fail(place.job({"to": JobStatus.CANCELLED}), gone) is True
    assert jobs.fail(place.job({"to": JobStatus.QUEUING}), gone) is False
    assert jobs.fail(place.job({"to": JobStatus.QUEUING}, _FAILED), gone) is False
    resources.close()


class _Busy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def _refuse(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(503)
        self.send_header("Retry-After", "20")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_HEAD = _refuse  # noqa: N815 - as http.server calls them

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def busy_s3() -> Iterator[str]:
    """Run a server that answers 503 to everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@stack
def test_while_s3_asks_to_wait_uploads_are_refused_at_once(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    with busy_s3() as url:
        api = start_api(S3_ENDPOINT_URL=url, STORAGE_SCAN_DAYS="0", CIRCUIT_MAX_PAUSE_SECONDS="60")
        wait_until(lambda: api.metric("headrace_circuit_open", dependency="s3") > 0 or _ask(api))
        asked = _Busy.asked
        for path, body in (
            (f"/tokens/{token}/upload-audio", {"files": {"file": ("a.wav", recording("wav"))}}),
            (f"/tokens/{token}/direct-uploads", {"json": {"filename": "a.wav", "size": 9}}),
        ):
            refused = api.client.post(path, **body)
            assert (refused.status_code, refused.json()["code"]) == (503, "dependency_at_fault")
            assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert _Busy.asked == asked
        assert backend.jobs_of(token) == []
        health = api.client.get("/health/ready").json()
        assert health["checks"]["s3"]["error"] == "CircuitOpenError"


def _ask(api: IngestApi) -> bool:
    api.client.get("/health/ready")
    return False


@stack
def test_while_postgres_is_stopped_uploads_are_503_at_once_and_nothing_is_kept(
    api: IngestApi, backend: Backend, local_servers: LocalServers, token: str
) -> None:
    assert api.upload(token, recording("wav")).status_code == 200
    local_servers.stop("postgres")
    try:
        for _ in range(3):
            refused = api.upload(token, recording("wav"))
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) > 0
            assert refused.elapsed < timedelta(seconds=30)  # nobody waits for the database
        assert api.client.get("/health/ready").status_code == 503
    finally:
        local_servers.start("postgres")
    answer = wait_until(
        lambda: api.upload(token, recording("wav")), lambda one: one.status_code == 200
    )
    kept = [job.id for job in backend.jobs_of(token)]
    assert len(kept) == 2
    assert answer.json()["job_id"] in kept
    with backend.database.begin() as session:
        assert session.get(Job, kept[0]) is not None
