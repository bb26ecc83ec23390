"""Uploads whose jobs begin later, on the service and its servers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from direct_client import DirectClient
from ingest_audio import recording
from ingest_harness import FORM_HEADERS, Backend, IngestApi, form
from sqlalchemy import func, select

from headrace_common.contracts import EventType, JobStatus, Lane
from headrace_common.db import Job

pytestmark = pytest.mark.stack

HOUR = timedelta(hours=1)


def in_an_hour() -> str:
    return (datetime.now(UTC) + HOUR).isoformat()


def ahead(backend: Backend, job_id: str) -> float:
    """Return the seconds until a job begins, by the database's clock."""
    with backend.database.begin() as session:
        left = func.extract("epoch", Job.run_at - func.clock_timestamp())
        return float(session.execute(select(left).where(Job.id == job_id)).scalar_one())


def waiting(api: IngestApi, lane: str) -> int:
    return int(api.client.get("/queue/status").json()[lane]["length"])


@pytest.mark.parametrize("where", ["query", "before", "after"])
def test_a_recording_is_kept_and_its_job_waits_for_its_time(
    api: IngestApi, backend: Backend, token: str, where: str
) -> None:
    lane, run_at = "low_priority", in_an_hour()
    length, content = waiting(api, lane), recording("wav")
    fields = {"run_at": run_at, "priority": "low"}
    path = f"/tokens/{token}/upload-audio"
    if where == "query":
        answer = api.upload(token, content, params=fields)
    else:
        body = form(content, **{where: fields})  # type: ignore[arg-type]  # one of two
        answer = api.client.post(path, content=body, headers=FORM_HEADERS)
    body = answer.json()
    assert answer.status_code == 200, body
    assert datetime.fromisoformat(body.pop("run_at")) == datetime.fromisoformat(run_at)
    job_id = body["job_id"]
    assert body == {
        "message": body["message"],
        "job_id": job_id,
        "queue_message_id": None,
        "rq_job_id": None,
        "status": "scheduled",
        "priority": "low",
        "queue_position": 0,
        "token_id": token,
    }
    assert body["message"].startswith("Recording stored and scheduled for 20")
    job = backend.job(job_id)
    assert (job.status, job.progress, job.queue_message_id) == ("scheduled", 35, None)
    assert job.queued_at is None
    assert backend.object(str(job.input["s3_audio_url"])) == content
    steps = [(event.type, event.status, event.progress) for event in backend.timeline(job_id)]
    assert steps == [
        (EventType.STATUS, JobStatus.UPLOADING, 10),
        (EventType.STATUS, JobStatus.UPLOADING, 30),
        (EventType.STATUS, JobStatus.SCHEDULED, 35),
    ]
    last = backend.timeline(job_id)[-1]
    assert last.data == {"run_at": datetime.fromisoformat(run_at).isoformat()}
    assert waiting(api, lane) == length, "it does not wait in its lane"


def test_a_delay_counts_from_the_acceptance(api: IngestApi, backend: Backend, token: str) -> None:
    for delay in ("3600", "PT1H"):
        body = api.upload(token, recording("wav"), params={"delay": delay}).json()
        assert body["status"] == "scheduled"
        assert 3_500 < ahead(backend, body["job_id"]) <= 3_600


@pytest.mark.parametrize("asked", [{"run_at": "2020-01-01T00:00:00Z"}, {"delay": "0"}])
def test_a_time_that_has_passed_means_at_once(
    api: IngestApi, backend: Backend, token: str, asked: dict[str, str]
) -> None:
    body = api.upload(token, recording("wav"), params=asked).json()
    assert (body["status"], body["queue_position"] > 0) == ("queued", True)
    assert backend.message(Lane.NORMAL, body["queue_message_id"]) is not None
    assert backend.job(body["job_id"]).run_at == datetime.fromisoformat(body["run_at"])


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"run_at": "2026-12-24T18:00:00"}, "run_at"),
        ({"delay": "tomorrow"}, "delay"),
        ({"run_at": "2026-12-24T18:00:00Z", "delay": "5"}, "delay"),
        ({"delay": "P366D"}, "delay"),
        ({"run_at": "2999-01-01T00:00:00Z"}, "run_at"),
    ],
)
def test_a_wrong_time_is_422_before_there_is_a_job(
    api: IngestApi, backend: Backend, token: str, asked: dict[str, str], field: str
) -> None:
    path = f"/tokens/{token}/upload-audio"
    body = form(recording("wav"), before=asked)
    for answer in (
        api.upload(token, recording("wav"), params=asked),
        api.client.post(path, content=body, headers=FORM_HEADERS),
        api.client.post(
            f"/tokens/{token}/direct-uploads", json={"filename": "a.wav", "size": 5, **asked}
        ),
    ):
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "invalid_run_at")
        assert [error["field"] for error in problem["errors"]] == [field]
    assert backend.jobs_of(token) == []


def test_a_wrong_time_after_the_file_fails_the_job_and_nothing_stays(
    api: IngestApi, backend: Backend, token: str
) -> None:
    body = form(recording("wav"), after={"delay": "tomorrow"})
    path = f"/tokens/{token}/upload-audio"
    assert api.client.post(path, content=body, headers=FORM_HEADERS).status_code == 422
    (job,) = backend.jobs_of(token)
    assert (job.status, job.error_code) == ("failed", "invalid_run_at")
    assert backend.keeps_nothing_of(job)


def test_a_repetition_gets_the_first_answer_and_another_time_is_another_request(
    api: IngestApi, backend: Backend, token: str
) -> None:
    content, headers = recording("wav"), {"Idempotency-Key": token}

    def upload(**asked: str) -> httpx.Response:
        return api.upload(token, content, params=asked, headers=headers)

    first = upload(delay="PT1H")
    again = upload(delay="3600")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    for asked in ({}, {"delay": "60"}, {"run_at": first.json()["run_at"]}):
        assert upload(**asked).json()["code"] == "idempotency_key_reused"
    assert len(backend.jobs_of(token)) == 1


@pytest.fixture
def direct(api: IngestApi, token: str) -> Callable[..., DirectClient]:
    return lambda **asked: DirectClient(api, token, recording("wav"), **asked)


@pytest.mark.parametrize("asked", [{"delay": 3_600}, {"delay": "PT1H"}, {"run_at": None}])
def test_a_direct_upload_is_scheduled_when_it_is_completed(
    backend: Backend, direct: Callable[..., DirectClient], asked: dict[str, Any]
) -> None:
    wish = asked if "delay" in asked else {"run_at": in_an_hour()}
    client = direct(**wish)
    key = {"Idempotency-Key": f"direct-{client.token}"}
    assert client.open(**key).status_code == 201
    assert client.open(**key).headers["idempotent-replayed"] == "true"
    client.send_all()
    first, again = client.complete().json(), client.complete().json()
    assert (first["status"], first["queue_message_id"]) == ("scheduled", None)
    assert again == first
    assert 3_500 < ahead(backend, client.job_id) <= 3_600
    assert client.view()["state"] == "accepted"
    assert client.abort().status_code == 409, "it is accepted; cancel its job"
