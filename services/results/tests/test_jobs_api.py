"""Reading jobs (A11), and their files."""

import uuid
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from results_harness import Bench, Replica, running

from headrace_common import keys
from headrace_common.contracts import JobStatus, Lane
from headrace_common.keys import Scope
from headrace_common.storage import s3_client
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack


@pytest.fixture
def replica(replicas: list[Replica]) -> Replica:
    return replicas[1]


def test_a_job_is_shown(bench: Bench, replica: Replica) -> None:
    job_id = bench.job(
        JobStatus.QUEUED,
        lane=Lane.HIGH,
        token_id="t1",
        input={"s3_audio_url": "s3://headrace-media/a.wav"},
    )

    shown = bench.get(replica, f"/jobs/{job_id}").json()

    times = {name: shown.pop(name) for name in ("created_at", "updated_at")}
    assert all(datetime.fromisoformat(value).tzinfo for value in times.values())
    assert shown == {
        "job_id": job_id,
        "kind": "audio_analysis",
        "status": "queued",
        "progress": 50,
        "message": "queued",
        "priority": "high",
        "token_id": "t1",
        "transport": None,
        "run": 1,
        "run_at": None,
        "retry_at": None,
        "waiting_for": None,
        "rq_job_id": None,
        "queue_message_id": None,
        "input": {"s3_audio_url": "s3://headrace-media/a.wav"},
        "metadata": {},
        "result": None,
        "error": None,
        "trace_id": None,
        "finished_at": None,
        "retain_until": None,
    }


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/unknown{}",
        "/jobs/unknown/timeline{}",
        "/jobs/unknown/reports{}",
        "/jobs/unknown/events{}",
        "/jobs/unknown/artifacts/recording{}",
    ],
)
def test_every_route_needs_a_key_and_a_job(bench: Bench, replica: Replica, path: str) -> None:
    url = path.format("")
    assert httpx.get(f"{replica.url}{url}", timeout=30).status_code == 401
    missing = bench.get(replica, url)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_a_key_needs_the_scope(bench: Bench, replica: Replica) -> None:
    with bench.database.begin() as session:
        made = keys.create(session, name="writer", scopes=[Scope.JOBS_WRITE])
    answer = httpx.get(
        f"{replica.url}/jobs", headers={"Authorization": f"Bearer {made.secret_text}"}, timeout=30
    )
    assert answer.status_code == 403


def test_the_old_endpoint_may_be_opened_and_no_other(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    job_id = bench.job()
    with running(service_env, tmp_path / "log", LEGACY_OPEN_ENDPOINTS="true") as replica:
        assert httpx.get(f"{replica.url}/jobs/{job_id}", timeout=30).status_code == 200
        assert httpx.get(f"{replica.url}/jobs", timeout=30).status_code == 401


def test_jobs_are_listed_newest_first_page_by_page(bench: Bench, replica: Replica) -> None:
    token = uuid.uuid4().hex
    made = [bench.job(token_id=token) for _ in range(5)]
    found: list[str] = []
    query: dict[str, str] = {"token_id": token, "limit": "2"}
    pages = 0
    while True:
        page = bench.get(replica, "/jobs", params=query).json()
        found += [job["job_id"] for job in page["jobs"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert found == made[::-1]
    assert pages == 3


def test_jobs_are_filtered(bench: Bench, replica: Replica) -> None:
    token = uuid.uuid4().hex
    waiting = bench.job(JobStatus.QUEUED, token_id=token, lane=Lane.LOW)
    analysed = bench.job(token_id=token)
    done = bench.job(token_id=token)
    bench.change(done, JobStatus.COMPLETED)
    middle = bench.view(analysed).created_at

    def listed(**query: object) -> set[str]:
        answer = bench.get(replica, "/jobs", params={"token_id": token, **query})
        assert answer.status_code == 200, answer.text
        return {job["job_id"] for job in answer.json()["jobs"]}

    assert listed() == {waiting, analysed, done}
    assert listed(status="queued") == {waiting}
    assert listed(status=["queued", "completed"]) == {waiting, done}
    assert listed(priority="low") == {waiting}
    assert listed(kind="cctv_preprocess") == set()
    assert listed(created_after=middle.isoformat()) == {analysed, done}
    assert listed(created_before=middle.isoformat()) == {waiting}
    assert listed(created_before=(middle - timedelta(days=1)).isoformat()) == set()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"limit": "0"}, 422),
        ({"limit": "201"}, 422),
        ({"status": "perhaps"}, 422),
        ({"created_after": "2026-01-01T00:00:00"}, 422),
        ({"token_id": "a\0"}, 422),
        ({"cursor": "nonsense"}, 400),
    ],
)
def test_a_wrong_question_is_refused(
    bench: Bench, replica: Replica, query: dict[str, str], status: int
) -> None:
    answer = bench.get(replica, "/jobs", params=query)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_timeline_is_read_page_by_page(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    first = bench.get(replica, f"/jobs/{job_id}/timeline", params={"limit": 3}).json()
    rest = bench.get(replica, f"/jobs/{job_id}/timeline", params={"after": first["next"]}).json()

    assert [event["sequence"] for event in first["events"]] == [1, 2, 3]
    assert [event["sequence"] for event in rest["events"]] == [4, 5]
    assert (first["next"], rest["next"]) == (3, None)
    assert [event["status"] for event in first["events"] + rest["events"]] == [
        "uploading",
        "queuing",
        "queued",
        "processing",
        "queued_for_analysis",
    ]
    assert set(rest["events"][0]) == {
        "job_id", "sequence", "type", "status", "progress", "message", "data", "created_at",
    }  # fmt: skip


def test_every_report_is_shown_with_what_it_did(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    done = {"status": "completed", "result": {}, "model": "v7"}
    for number in (1, 1, 2):
        bench.report(replica, job_id, done, webhook_id=f"{job_id}-{number}")
    bench.outcomes(job_id)

    page = bench.get(replica, f"/jobs/{job_id}/reports", params={"limit": 1}).json()
    rest = bench.get(replica, f"/jobs/{job_id}/reports", params={"after": page["next"]}).json()

    shown = page["reports"] + rest["reports"]
    assert [(one["deliveries"], one["source"], one["payload"]) for one in shown] == [
        (2, "webhook", done),
        (1, "webhook", done),
    ]
    assert sorted(one["outcome"] for one in shown) == ["applied", "ignored: job is completed"]
    assert all(one["applied_at"] and one["attempts"] >= 1 for one in shown)
    assert rest["next"] is None


def test_a_file_is_read_through_a_short_lived_url(bench: Bench, replica: Replica) -> None:
    bucket = bench.settings.s3_bucket
    client = s3_client(bench.settings)
    prefix = uuid.uuid4().hex
    for name in ("plot.png", "a.wav"):
        client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=name.encode())
    job_id = bench.job(input={"s3_audio_url": f"s3://{bucket}/{prefix}/a.wav"})
    artifacts = {
        "plot": f"s3://{bucket}/{prefix}/plot.png",
        "foreign": "s3://another-bucket/secret",
        "web": "http://127.0.0.1/secret",
        "odd": {"url": "x"},
    }
    bench.change(job_id, JobStatus.COMPLETED, result={"artifacts": artifacts})

    for name, content in (("plot", b"plot.png"), ("recording", b"a.wav")):
        redirect = bench.get(replica, f"/jobs/{job_id}/artifacts/{name}")
        assert redirect.status_code == 307
        assert redirect.headers["cache-control"] == "no-store"
        assert "X-Amz-Expires=300" in redirect.headers["location"]
        assert httpx.get(redirect.headers["location"], timeout=30).content == content
    for name in ("foreign", "web", "odd", "missing", "artifacts"):
        answer = bench.get(replica, f"/jobs/{job_id}/artifacts/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_url_of_a_file_names_the_public_endpoint(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    url = f"s3://{bench.settings.s3_bucket}/a.wav"
    job_id = bench.job(input={"s3_audio_url": url})
    public = "https://files.example.org"
    with running(service_env, tmp_path / "log", S3_PUBLIC_ENDPOINT_URL=public) as replica:
        location = bench.get(replica, f"/jobs/{job_id}/artifacts/recording").headers["location"]
    assert location.startswith(f"{public}/{bench.settings.s3_bucket}/a.wav?")


def test_the_metrics_tell_what_happens(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    bench.report(replica, job_id, {"status": "completed"})
    bench.outcomes(job_id)
    bench.get(replica, f"/jobs/{job_id}")

    def text() -> str:
        return httpx.get(f"{replica.url}/metrics", timeout=30).text

    # It may have lost its connection when another test stopped Redis.
    wait_until(lambda: "headrace_sse_hub_connected 1.0" in text())
    wait_until(lambda: "headrace_reports_unapplied" in text())
    shown = text()
    for name in (
        'headrace_reports_received_total{duplicate="false",source="webhook"}',
        'headrace_reports_unapplied{state="waiting"}',
        "headrace_sse_hub_connected 1.0",
        "headrace_sse_clients",
        'route="/jobs/{job_id}"',
    ):
        assert name in shown
