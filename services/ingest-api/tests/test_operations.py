"""Retry, cancel and bulk, in every state (O2)."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ingest_audio import recording
from ingest_harness import Backend, IngestApi, StartApi, make_job
from sqlalchemy import select

from headrace_common.contracts import EventType, JobKind, JobStatus, Lane
from headrace_common.contracts.cctv import CANCELLED_SUFFIX, PreprocessEntry
from headrace_common.db import AuditEntry
from headrace_common.jobs import Change, Failure, NewJob
from headrace_common.jobs.cameras import camera_input

pytestmark = pytest.mark.stack

#: Statuses from which a job may be begun anew without further words.
RETRIED = [status for status in JobStatus if status not in {"uploading", "scheduled", "completed"}]


def accepted(backend: Backend, status: JobStatus, **more: Any) -> str:
    """Make a job whose recording was accepted, in `status`."""
    if not status.is_final:
        return make_job(backend.store, Lane.NORMAL, status)
    job_id = make_job(backend.store, Lane.NORMAL, JobStatus.QUEUED)
    failure = Failure(more.get("code", "test"), "test") if status is JobStatus.FAILED else None
    result: Any = {"first": True} if status is JobStatus.COMPLETED else None
    change = Change(job_id=job_id, to=status, message="test", failure=failure, result=result)
    backend.store.apply([change])
    return job_id


def camera_job(backend: Backend) -> str:
    job_id = str(uuid.uuid4())
    entry = PreprocessEntry.model_validate(
        {"cctvId": "c", "hls": "http://c/x.m3u8", "sec": 5, "enqueuedAt": 1, "jobId": job_id}
    )
    backend.store.create(
        NewJob(
            id=job_id, kind=JobKind.CCTV_PREPROCESS, lane=Lane.NORMAL, message="test",
            status=JobStatus.QUEUED, input=camera_input(entry),
        )
    )  # fmt: skip
    return job_id


def trail(backend: Backend, target: str) -> list[AuditEntry]:
    with backend.database.begin() as session:
        query = select(AuditEntry).where(AuditEntry.target == target).order_by(AuditEntry.id)
        return list(session.scalars(query))


@pytest.mark.parametrize("status", RETRIED)
def test_a_job_is_begun_anew_from_wherever_it_is(
    api: IngestApi, backend: Backend, status: JobStatus
) -> None:
    job_id = accepted(backend, status)
    before = backend.job(job_id)

    answer = api.client.post(f"/jobs/{job_id}/retry")

    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "The job is begun anew", "job_id": job_id, "status": "queued", "run": 2},
    )
    job = backend.job(job_id)
    assert (job.status, job.run, job.progress, job.error_code) == ("queued", 2, 50, None)
    assert (job.finished_at, job.retain_until, job.deliveries) == (None, None, 0)
    assert job.queue_message_id not in {None, before.queue_message_id}
    assert backend.message(Lane.NORMAL, str(job.queue_message_id)) is not None
    last = backend.timeline(job_id)[-1]
    assert (last.type, last.status) == (EventType.RESTARTED, "queued")
    (entry,) = trail(backend, job_id)
    assert entry.action == "job.retry"
    assert entry.details == {"run": 2, "was": status.value}
    assert entry.actor in backend.api_key


def test_a_job_that_begins_later_is_queued_now(api: IngestApi, backend: Backend) -> None:
    job_id = make_job(backend.store, Lane.NORMAL, JobStatus.SCHEDULED)
    answer = api.client.post(f"/jobs/{job_id}/retry?run=1").json()
    assert (answer["status"], answer["run"]) == ("queued", 1)
    assert answer["message"] == "The job is queued now"
    job = backend.job(job_id)
    assert (job.status, job.run, job.progress) == ("queued", 1, 50)
    assert backend.message(Lane.NORMAL, str(job.queue_message_id)) is not None
    (entry,) = trail(backend, job_id)
    assert entry.details == {"run": 1, "was": "scheduled"}
    last = backend.timeline(job_id)[-1]
    assert (last.type, last.message) == (
        EventType.STATUS,
        f"Queued before its time, by {entry.actor}",
    )


def test_a_job_that_begins_later_is_cancelled_and_kept(api: IngestApi, backend: Backend) -> None:
    job_id = make_job(backend.store, Lane.NORMAL, JobStatus.SCHEDULED)
    wish = {"action": "cancel", "filter": {"statuses": ["scheduled"], "ids": [job_id]}}
    assert api.client.post("/jobs/bulk", json=wish).json()["outcomes"] == {"cancelled": 1}
    job = backend.job(job_id)
    assert (job.status, job.progress, job.discard_at) == ("cancelled", 35, None)
    assert job.retain_until is not None
    assert api.client.post(f"/jobs/{job_id}/retry").json()["run"] == 2
    assert backend.job(job_id).status == "queued"


def test_a_completed_job_needs_force_and_keeps_its_result(api: IngestApi, backend: Backend) -> None:
    job_id = accepted(backend, JobStatus.COMPLETED)

    refused = api.client.post(f"/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_completed")
    assert backend.job(job_id).run == 1

    assert api.client.post(f"/jobs/{job_id}/retry?force=true").json()["run"] == 2
    job = backend.job(job_id)
    assert (job.status, job.result) == ("queued", {"first": True})


def test_what_was_never_accepted_cannot_be_begun_anew(api: IngestApi, backend: Backend) -> None:
    uploading = make_job(backend.store, Lane.NORMAL, JobStatus.UPLOADING)
    discarded = make_job(backend.store, Lane.NORMAL, JobStatus.FAILED)
    for job_id, code in ((uploading, "job_not_accepted"), (discarded, "media_discarded")):
        answer = api.client.post(f"/jobs/{job_id}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, code)
        assert backend.job(job_id).run == 1
        assert trail(backend, job_id) == []
    assert api.client.post("/jobs/nobody/retry").status_code == 404
    assert api.client.post("/jobs/%00/retry").status_code == 404


def test_naming_the_run_makes_a_retry_safe_to_repeat(api: IngestApi, backend: Backend) -> None:
    job_id = accepted(backend, JobStatus.FAILED)
    assert api.client.post(f"/jobs/{job_id}/retry?run=1").status_code == 200
    again = api.client.post(f"/jobs/{job_id}/retry?run=1")
    assert (again.status_code, again.json()["code"]) == (409, "job_run_changed")
    assert backend.job(job_id).run == 2


def test_a_camera_job_is_taken_off_and_put_on_the_stream(api: IngestApi, backend: Backend) -> None:
    job_id, stream = camera_job(backend), backend.settings.redis_stream
    assert api.client.delete(f"/jobs/{job_id}/cancel").status_code == 200
    told: Any = backend.redis.hget(f"{stream}{CANCELLED_SUFFIX}", job_id)
    assert told.split()[1] == b"1", "the run that is cancelled"

    assert api.client.post(f"/jobs/{job_id}/retry").json()["run"] == 2
    entries: Any = backend.redis.xrevrange(stream, count=1)
    assert entries[0][1][b"jobId"].decode() == job_id
    assert entries[0][1][b"jobRun"] == b"2"
    assert backend.job(job_id).status == "queued"


def test_without_redis_the_rows_count(start_api: StartApi, backend: Backend, token: str) -> None:
    api = start_api(REDIS_URL="redis://127.0.0.1:1/0")
    camera = camera_job(backend)
    assert api.client.delete(f"/jobs/{camera}/cancel").status_code == 200
    assert backend.job(camera).status == "cancelled"
    failed = accepted(backend, JobStatus.FAILED)
    assert api.client.post(f"/jobs/{failed}/retry").json()["status"] == "queued"
    assert backend.job(failed).run == 2


def test_a_job_that_waits_for_its_next_try_is_cancelled(api: IngestApi, backend: Backend) -> None:
    job_id = accepted(backend, JobStatus.PROCESSING)
    until = datetime.now(UTC) + timedelta(hours=1)
    assert backend.store.hold(job_id, until=until, waiting_for="sqs", message="SQS is away")
    assert api.client.delete(f"/jobs/{job_id}/cancel").status_code == 200
    job = backend.job(job_id)
    assert (job.status, job.retry_at, job.waiting_for) == ("cancelled", None, None)
    assert [entry.action for entry in trail(backend, job_id)] == ["job.cancel"]


def test_a_recording_that_was_cancelled_is_analysed_after_all(
    api: IngestApi, backend: Backend, token: str
) -> None:
    job_id = api.upload(token, recording("wav")).json()["job_id"]
    assert api.client.delete(f"/jobs/{job_id}/cancel").status_code == 200
    assert api.client.post(f"/jobs/{job_id}/retry").json()["run"] == 2
    job = backend.job(job_id)
    assert backend.object(str(job.input["s3_audio_url"])) is not None


# -- bulk


def many(backend: Backend, count: int, status: JobStatus, token: str, code: str = "x") -> list[str]:
    """Make jobs that only a filter by their token finds, oldest first."""
    made = []
    for _ in range(count):
        job_id = str(uuid.uuid4())
        backend.store.create(
            NewJob(
                id=job_id, kind=JobKind.AUDIO_ANALYSIS, lane=Lane.LOW, message="t", token_id=token
            )
        )
        backend.store.apply([Change(job_id=job_id, to=JobStatus.QUEUING, message="t")])
        failure = Failure(code, "test") if status is JobStatus.FAILED else None
        backend.store.apply([Change(job_id=job_id, to=status, message="t", failure=failure)])
        made.append(job_id)
    return made


def bulk(api: IngestApi, action: str, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/jobs/bulk", json={"action": action, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_dry_run_tells_and_does_nothing(api: IngestApi, backend: Backend, token: str) -> None:
    made = many(backend, 25, JobStatus.FAILED, token)
    many(backend, 1, JobStatus.QUEUED, token)

    told = bulk(api, "retry", filter={"token_id": token}, dry_run=True)

    assert (told["matched"], told["outcomes"], len(told["sample"])) == (25, {}, 20)
    assert told["sample"][0] == {
        "job_id": made[-1],
        "kind": "audio_analysis",
        "status": "failed",
        "error_code": "x",
        "message": "t",
    }
    assert all(backend.job(job_id).run == 1 for job_id in made)


def test_failed_jobs_of_one_kind_are_retried(api: IngestApi, backend: Backend, token: str) -> None:
    wanted = many(backend, 2, JobStatus.FAILED, token, "s3_away")
    others = many(backend, 1, JobStatus.FAILED, token, "broken_audio")
    others += many(backend, 1, JobStatus.CANCELLED, token)

    done = bulk(api, "retry", filter={"token_id": token, "error_code": "s3_away"})

    assert (done["matched"], done["outcomes"], done["next_cursor"]) == (2, {"retried": 2}, None)
    assert [backend.job(job_id).status for job_id in wanted] == ["queued"] * 2
    assert [backend.job(job_id).run for job_id in others] == [1, 1]
    (note,) = trail(backend, wanted[0])
    with backend.database.begin() as session:
        query = select(AuditEntry).where(AuditEntry.action == "jobs.bulk_retry")
        bulks = {entry.details["bulk"]: entry.details for entry in session.scalars(query)}
    assert bulks[note.details["bulk"]]["filter"] == {"token_id": token, "error_code": "s3_away"}


def test_a_bulk_goes_on_where_the_call_before_ended(
    api: IngestApi, backend: Backend, token: str
) -> None:
    made = many(backend, 5, JobStatus.QUEUED, token)
    wish: dict[str, Any] = {"filter": {"token_id": token}, "limit": 2, "rate_per_second": 50}

    first = bulk(api, "cancel", **wish)
    assert first["outcomes"] == {"cancelled": 2}
    assert [backend.job(job_id).status for job_id in made] == ["queued"] * 3 + ["cancelled"] * 2
    many(backend, 1, JobStatus.QUEUED, token)
    second = bulk(api, "cancel", **wish, cursor=first["next_cursor"])
    last = bulk(api, "cancel", **wish, cursor=second["next_cursor"])
    assert (last["outcomes"], last["next_cursor"]) == ({"cancelled": 1}, None)
    assert {backend.job(job_id).status for job_id in made} == {"cancelled"}


def test_what_is_refused_is_told_and_stops_nobody(
    api: IngestApi, backend: Backend, token: str
) -> None:
    failed, completed = (
        many(backend, 1, JobStatus.FAILED, token),
        many(backend, 1, JobStatus.COMPLETED, token),
    )
    uploading = make_job(backend.store, Lane.NORMAL, JobStatus.UPLOADING)
    ids = [*failed, *completed, uploading]

    done = bulk(api, "retry", filter={"ids": ids})

    assert done["outcomes"] == {"retried": 1, "job_completed": 1, "job_not_accepted": 1}
    assert {refusal["job_id"] for refusal in done["refusals"]} == {*completed, uploading}
    forced = bulk(api, "retry", filter={"ids": completed}, force=True)
    assert forced["outcomes"] == {"retried": 1}
    assert bulk(api, "cancel", filter={"ids": completed})["outcomes"] == {"cancelled": 1}
    again = bulk(api, "cancel", filter={"ids": completed})
    assert again["outcomes"] == {"job_finished": 1}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"action": "cancel"}, "unbounded_bulk"),
        ({"action": "cancel", "dry_run": True, "filter": {"statuses": []}}, "unbounded_bulk"),
        ({"action": "delete", "all": True}, "invalid_request"),
        ({"action": "cancel", "filter": {"tokenid": "t"}}, "invalid_request"),
        ({"action": "cancel", "filter": {"token_id": "a\0"}}, "invalid_request"),
        (
            {"action": "cancel", "all": True, "limit": 1_000, "rate_per_second": 1},
            "invalid_request",
        ),
    ],
)
def test_a_bulk_says_what_it_means(api: IngestApi, body: dict[str, Any], code: str) -> None:
    answer = api.client.post("/jobs/bulk", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_all_jobs_have_to_be_asked_for(api: IngestApi, backend: Backend, token: str) -> None:
    many(backend, 1, JobStatus.QUEUED, token)
    assert bulk(api, "cancel", all=True, dry_run=True)["matched"] >= 1


def test_without_a_key_nobody_does_any_of_it(api: IngestApi) -> None:
    bare = {"Authorization": "Bearer nobody"}
    for path, body in (("/jobs/x/retry", None), ("/jobs/bulk", {"action": "cancel", "all": True})):
        assert api.client.post(path, json=body, headers=bare).status_code == 401
