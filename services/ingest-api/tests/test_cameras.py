"""Camera jobs over HTTP: a row first, then an entry exactly as the Java producer writes it."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from ingest_harness import Backend, Gate, IngestApi, StartApi

from headrace_common import keys
from headrace_common.contracts import JobStatus, Lane
from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.db import Job
from headrace_common.jobs import Change
from headrace_common.keys import Scope
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

HLS = "https://user:pass-word@cam.example.org:8443/1/live.m3u8?token=se-cret"


@pytest.fixture
def camera() -> str:
    return f"L 01/{uuid.uuid4().hex[:8]}".replace("/", "-")


def ask(api: IngestApi, camera: str, **changes: Any) -> httpx.Response:
    headers = changes.pop("headers", {})
    body = {"hls": HLS, "sec": 20, **changes}
    return api.client.post(f"/cctv/{camera}/preprocess", json=body, headers=headers)


def entries(backend: Backend, job_id: str) -> list[tuple[str, dict[str, str]]]:
    rows: Any = backend.redis.xrange(backend.settings.redis_stream)
    found = [(row[0].decode(), {k.decode(): v.decode() for k, v in row[1].items()}) for row in rows]
    return [(entry_id, fields) for entry_id, fields in found if fields.get("jobId") == job_id]


def test_a_job_is_queued_as_an_entry_of_the_stream(
    api: IngestApi, backend: Backend, camera: str
) -> None:
    trace = f"00-{uuid.uuid4().hex}-00f067aa0ba902b7-01"
    answer = ask(api, camera, sec=7.5, headers={"traceparent": trace})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    [(entry_id, fields)] = entries(backend, told["job_id"])
    assert told == {
        "message": "Queued",
        "job_id": told["job_id"],
        "queue_message_id": entry_id,
        "status": "queued",
        "cctv_id": camera,
    }
    assert fields.pop("traceparent").split("-")[1] == trace.split("-")[1]
    assert abs(int(fields.pop("enqueuedAt")) - int(entry_id.split("-")[0])) < 60_000
    assert fields == {
        "cctvId": camera,
        "hls": HLS,
        "sec": "7.5",
        "attempt": "0",
        "jobId": told["job_id"],
    }
    job = backend.job(told["job_id"])
    assert (job.kind, job.status, job.progress) == ("cctv_preprocess", "queued", 50)
    assert (job.queue_message_id, job.lane, job.input["hls"]) == (entry_id, "normal", HLS)
    assert job.trace["traceparent"].split("-")[1] == trace.split("-")[1]
    assert [(e.status, e.progress) for e in backend.timeline(job.id)] == [
        (JobStatus.QUEUING, 40),
        (JobStatus.QUEUED, 50),
    ]
    for shown in (answer.text, api.log, json.dumps([e.data for e in backend.timeline(job.id)])):
        assert "se-cret" not in shown
        assert "pass-word" not in shown


def test_the_client_may_choose_the_id_once(api: IngestApi, backend: Backend, camera: str) -> None:
    job_id = f"mine-{uuid.uuid4()}"
    assert ask(api, camera, job_id=job_id).json()["job_id"] == job_id
    again = ask(api, camera, job_id=job_id)
    assert (again.status_code, again.json()["code"]) == (409, "job_exists")
    assert len(entries(backend, job_id)) == 1


def test_a_repetition_with_the_same_key_is_one_job(
    api: IngestApi, backend: Backend, camera: str
) -> None:
    headers = {"Idempotency-Key": camera}
    first, again = (ask(api, camera, headers=headers) for _ in range(2))
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(entries(backend, first.json()["job_id"])) == 1
    other = ask(api, camera, sec=21, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_of_many_at_once_with_one_key_one_is_done(
    api: IngestApi, backend: Backend, camera: str
) -> None:
    headers = {"Idempotency-Key": camera}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(api, camera, headers=headers), range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    ids = {answer.json()["job_id"] for answer in answers if answer.status_code == 202}
    assert len(ids) == 1
    assert len(entries(backend, ids.pop())) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"hls": "file:///etc/passwd"},
        {"hls": "rtsp://cam/1"},
        {"hls": "https://"},
        {"hls": "https:///1.m3u8"},
        {"hls": "http://[::1/1.m3u8"},
        {"hls": "http://cam:port/1.m3u8"},
        {"hls": "http://cam:0/1.m3u8"},
        {"hls": "http://cam/a b\n"},
        {"hls": "http://cam/" + "x" * 5_000},
        {"sec": 0},
        {"sec": -1},
        {"sec": 601},
        {"sec": "many"},
        {"job_id": "a/b"},
        {"job_id": ".."},
        {"job_id": "x" * 201},
        {"job_id": "a\x00b"},
    ],
)
def test_nonsense_is_422_and_makes_no_job(
    api: IngestApi, backend: Backend, camera: str, changes: dict[str, Any]
) -> None:
    before = backend.redis.xlen(backend.settings.redis_stream)
    answer = ask(api, camera, **changes)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "se-cret" not in answer.text
    assert backend.redis.xlen(backend.settings.redis_stream) == before


@pytest.mark.parametrize("camera", ["%00", "%0A", "x" * 201, "%20"])
def test_a_camera_needs_a_name(api: IngestApi, camera: str) -> None:
    assert ask(api, camera).status_code == 422


def test_it_needs_a_key_with_the_scope(api: IngestApi, backend: Backend, camera: str) -> None:
    with backend.database.begin() as session:
        reader = keys.create(session, name="r", scopes=[Scope.JOBS_READ]).secret_text
    answer = ask(api, camera, headers={"Authorization": f"Bearer {reader}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert ask(api, camera, headers={"Authorization": ""}).status_code == 401


def test_the_old_back_end_had_no_cameras(start_api: StartApi, camera: str) -> None:
    api = start_api(LEGACY_OPEN_ENDPOINTS="true")
    assert ask(api, camera, headers={"Authorization": ""}).status_code == 401


@pytest.fixture
def redis_gate(backend: Backend) -> Iterator[Gate]:
    gate = Gate(backend.env["REDIS_URL"])
    yield gate
    gate.close()


def test_without_redis_a_job_is_accepted_and_waits(
    start_api: StartApi, backend: Backend, camera: str, redis_gate: Gate
) -> None:
    api = start_api(REDIS_URL=redis_gate.url)
    redis_gate.shut()
    headers = {"Idempotency-Key": camera}
    answer = ask(api, camera, headers=headers)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["status"], told["queue_message_id"]) == ("queuing", None)
    job = backend.job(told["job_id"])
    assert (job.status, job.progress) == ("queuing", 40)
    assert entries(backend, job.id) == []
    assert ask(api, camera, headers=headers).json() == told


@pytest.fixture
def database_gate(backend: Backend) -> Iterator[Gate]:
    gate = Gate(backend.settings.database_url.get_secret_value())
    yield gate
    gate.close()


def test_without_the_database_it_is_503_and_nothing_is_on_the_stream(
    start_api: StartApi, backend: Backend, camera: str, database_gate: Gate
) -> None:
    api = start_api(DATABASE_URL=database_gate.url)
    before = backend.redis.xlen(backend.settings.redis_stream)
    database_gate.shut()
    answer = ask(api, camera)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert backend.redis.xlen(backend.settings.redis_stream) == before


def test_a_commit_whose_answer_is_lost_is_not_answered_as_accepted(
    start_api: StartApi, backend: Backend, camera: str, database_gate: Gate
) -> None:
    api = start_api(DATABASE_URL=database_gate.url)
    api.wait_ready()
    job_id = f"mine-{uuid.uuid4()}"
    database_gate.shut_at_commit_of(job_id.encode())
    answer = ask(api, camera, job_id=job_id)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")

    def status() -> str | None:
        with backend.database.begin() as session:
            job = session.get(Job, job_id)
            return job.status if job else None

    # The server commits what was sent before the connection broke; the sweep goes on with it.
    assert wait_until(status) == JobStatus.QUEUING


def test_a_camera_job_is_cancelled_wherever_it_is(
    api: IngestApi, backend: Backend, camera: str
) -> None:
    queued = ask(api, camera).json()["job_id"]
    processing = ask(api, camera).json()["job_id"]
    backend.store.apply(
        [Change(job_id=processing, to=JobStatus.PROCESSING, message="", takes_up=True)]
    )
    for job_id in (queued, processing):
        assert api.client.delete(f"/jobs/{job_id}/cancel").json()["status"] == "cancelled"
        assert backend.job(job_id).status == JobStatus.CANCELLED
        assert api.client.delete(f"/jobs/{job_id}/cancel").status_code == 400


def test_camera_jobs_are_in_nobodys_lane(api: IngestApi, backend: Backend, camera: str) -> None:
    before = api.client.get("/queue/status").json()
    job_id = ask(api, camera).json()["job_id"]
    assert api.client.get("/queue/status").json() == before
    assert backend.job(job_id).lane == Lane.NORMAL


def test_the_entry_is_read_back(api: IngestApi, backend: Backend, camera: str) -> None:
    job_id = ask(api, camera).json()["job_id"]
    [(_, fields)] = entries(backend, job_id)
    entry = PreprocessEntry.parse(fields)
    assert (entry.job_id, entry.cctv_id, entry.hls, entry.sec) == (job_id, camera, HLS, 20)
