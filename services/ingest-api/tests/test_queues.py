import uuid
from collections.abc import Iterator

import pytest
from ingest_audio import recording
from ingest_harness import Backend, IngestApi, StartApi, golden, make_job

from headrace_common.contracts import JobStatus, Lane
from headrace_common.db import Database
from headrace_common.jobs import EventPublisher, JobStore
from headrace_common.settings import DatabaseSettings
from headrace_ingest_api.app import build_app
from headrace_ingest_api.settings import IngestSettings

pytestmark = pytest.mark.stack


@pytest.fixture
def own_store(fresh_database: DatabaseSettings, backend: Backend) -> Iterator[JobStore]:
    database = Database(fresh_database)
    try:
        yield JobStore(
            database, EventPublisher(backend.redis), retention=backend.settings.job_retention
        )
    finally:
        database.close()


def test_the_lanes_to_the_letter(
    start_api: StartApi, fresh_database: DatabaseSettings, own_store: JobStore
) -> None:
    api = start_api(
        DATABASE_URL=fresh_database.database_url.get_secret_value(), LEGACY_OPEN_ENDPOINTS="true"
    )
    for lane, status in (
        (Lane.HIGH, JobStatus.QUEUED),
        (Lane.HIGH, JobStatus.QUEUED),
        (Lane.HIGH, JobStatus.FAILED),
        (Lane.NORMAL, JobStatus.QUEUED),
        (Lane.NORMAL, JobStatus.PROCESSING),
        (Lane.NORMAL, JobStatus.COMPLETED),
        (Lane.LOW, JobStatus.QUEUED_FOR_ANALYSIS),
    ):
        make_job(own_store, lane, status)
    del api.client.headers["Authorization"]
    answer = api.client.get("/queue/status")
    assert (answer.status_code, answer.json()) == (200, golden("lanes"))
    assert list(answer.json()) == [lane.queue_name for lane in Lane]


def test_sqs_to_the_letter_over_all_lane_queues(start_api: StartApi, backend: Backend) -> None:
    urls = [
        backend.sqs.create_queue(QueueName=f"a7-{uuid.uuid4().hex}")["QueueUrl"] for _ in range(3)
    ]
    high, normal, low = urls
    api = start_api(SQS_QUEUE_URL=normal, SQS_QUEUE_URL_HIGH=high, SQS_QUEUE_URL_LOW=low)
    for url in urls:
        backend.sqs.send_message(QueueUrl=url, MessageBody="{}")
    [_] = backend.sqs.receive_message(QueueUrl=low)["Messages"]
    answer = api.client.get("/tokens/queue/status")
    assert answer.status_code == 200
    assert answer.json() == golden("sqs", queue_url=normal)


def test_a_queue_shared_by_lanes_is_counted_once(start_api: StartApi, backend: Backend) -> None:
    url = backend.sqs.create_queue(QueueName=f"a7-{uuid.uuid4().hex}")["QueueUrl"]
    api = start_api(SQS_QUEUE_URL=url, SQS_QUEUE_URL_HIGH="", SQS_QUEUE_URL_LOW="")
    backend.sqs.send_message(QueueUrl=url, MessageBody="{}")
    info = api.client.get("/tokens/queue/status").json()["queue_info"]
    assert info == {"messages_available": "1", "messages_in_flight": "0", "queue_url": url}


def test_without_sqs_it_says_so(start_api: StartApi) -> None:
    api = start_api(USE_SQS_QUEUE="false")
    assert api.client.get("/tokens/queue/status").json() == golden("sqs_off")
    assert "sqs" not in api.client.get("/health").json()["checks"]


def test_sqs_that_is_away_or_has_no_such_queue_is_503(
    start_api: StartApi, backend: Backend
) -> None:
    missing = f"{backend.env['SQS_QUEUE_URL']}-missing"
    for changes in (
        {"SQS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"SQS_QUEUE_URL": missing, "SQS_QUEUE_URL_HIGH": "", "SQS_QUEUE_URL_LOW": ""},
    ):
        api = start_api(**changes)
        answer = api.client.get("/tokens/queue/status")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        ready = api.client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")


@pytest.mark.parametrize("status", JobStatus.open())
def test_a_job_is_cancelled_wherever_it_is(
    api: IngestApi, backend: Backend, status: JobStatus
) -> None:
    job_id = make_job(backend.store, Lane.NORMAL, status)
    answer = api.client.delete(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()) == (200, golden("cancel", job_id=job_id))
    job = backend.job(job_id)
    assert job.status == "cancelled"
    assert job.finished_at is not None
    assert job.retain_until is not None


@pytest.mark.parametrize("status", [status for status in JobStatus if status.is_final])
def test_a_finished_job_is_400(api: IngestApi, backend: Backend, status: JobStatus) -> None:
    job_id = make_job(backend.store, Lane.NORMAL, status)
    answer = api.client.delete(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 400
    assert answer.json()["code"] == "job_finished"
    assert answer.json()["job_status"] == status
    assert backend.job(job_id).status == status


@pytest.mark.parametrize("job_id", ["nothing", str(uuid.UUID(int=0)), "%00", "x" * 5_000])
def test_an_unknown_job_is_404(api: IngestApi, job_id: str) -> None:
    answer = api.client.delete(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_uploaded_job_is_cancelled_once(api: IngestApi, backend: Backend, token: str) -> None:
    job_id = api.upload(token, recording("wav")).json()["job_id"]
    assert api.client.delete(f"/jobs/{job_id}/cancel").status_code == 200
    assert api.client.delete(f"/jobs/{job_id}/cancel").status_code == 400
    assert backend.timeline(job_id)[4].status is JobStatus.CANCELLED


def test_the_app_is_built_without_a_server() -> None:
    app = build_app(
        IngestSettings.model_validate(
            {
                "database_url": "postgresql://nobody@127.0.0.1:1/none",
                "redis_url": "redis://127.0.0.1:1/0",
                "s3_endpoint_url": "http://127.0.0.1:1",
                "use_sqs_queue": True,
                "sqs_queue_url": "http://127.0.0.1:1/q",
            }
        )
    )
    assert set(app.openapi()["paths"]) >= {
        "/tokens/{token_id}/upload-audio",
        "/tokens",
        "/tokens/{token_id}",
        "/tokens/{token_id}/textgrid",
        "/tokens/{token_id}/pitch",
        "/queue/status",
        "/tokens/queue/status",
        "/jobs/{job_id}/cancel",
        "/cctv/{cctv_id}/preprocess",
    }
