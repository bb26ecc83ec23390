"""The webhook, and what becomes of the reports that it takes in (A10)."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from results_harness import PATH, Bench, Replica, running

from headrace_common import webhooks
from headrace_common.contracts import EventType, JobStatus
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

DONE = {"status": "completed", "result": {"pitch_hz": 182.5}}


@pytest.fixture
def replica(replicas: list[Replica]) -> Replica:
    return replicas[0]


def post(replica: Replica, **options: object) -> httpx.Response:
    return httpx.post(f"{replica.url}{PATH}", timeout=30, **options)  # type: ignore[arg-type]


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


# -- who may report


def test_a_signed_report_completes_the_job(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()

    response = bench.report(replica, job_id, DONE | {"job_id": job_id})

    assert response.status_code == 202
    assert response.json() == {
        "status": "accepted",
        "job_id": job_id,
        "duplicate": False,
        "delivery": 1,
        "job_status": "queued_for_analysis",
        "stop": False,
    }
    assert bench.outcomes(job_id) == ["applied"]
    view = bench.view(job_id)
    assert (view.status, view.progress, view.result) == ("completed", 100, {"pitch_hz": 182.5})
    assert bench.inbox(job_id)[0].source == "webhook"


def test_a_plain_post_to_the_callback_url_completes_the_job(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    url = webhooks.callback_url(f"{replica.url}{PATH}", job_id, token=bench.token(job_id))

    response = httpx.post(url, json=DONE, timeout=30)

    assert response.status_code == 202
    assert bench.outcomes(job_id) == ["applied"]
    assert bench.inbox(job_id)[0].source == "callback"


def test_a_signed_body_may_name_the_job(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    body = json.dumps(DONE | {"job_id": job_id}).encode()

    assert post(replica, content=body, headers=bench.signed(body)).status_code == 202
    assert bench.outcomes(job_id) == ["applied"]


def test_a_report_without_any_right_is_refused(bench: Bench, replica: Replica) -> None:
    job_id, other = bench.job(), bench.job()
    refused = [
        {},
        {"token": ""},
        {"token": "guess"},
        {"token": bench.token(other)},
        {"token": bench.token("unknown")},
    ]

    for query in refused:
        response = post(replica, params={"job_id": job_id, **query}, json=DONE)
        assert problem(response) == (401, "unauthorized")
    assert problem(post(replica, params={"token": bench.token(job_id)}, json=DONE))[0] == 401
    assert bench.inbox(job_id) == []


def test_a_bad_signature_is_refused_even_with_the_token(bench: Bench, replica: Replica) -> None:
    job_id, body = bench.job(), json.dumps(DONE).encode()
    good = bench.signed(body)
    stranger = webhooks.secret_from_bytes(b"x" * 32)
    bad: list[dict[str, str]] = [
        bench.signed(b"{}"),
        bench.signed(body, secrets=[stranger]),
        bench.signed(body, age=timedelta(minutes=6)),
        bench.signed(body, age=timedelta(minutes=-6)),
        good | {"webhook-id": "another"},
        good | {"webhook-timestamp": "soon"},
        good | {"webhook-signature": "v1,"},
        {"webhook-id": "alone"},
        {"webhook-signature": good["webhook-signature"]},
    ]

    for headers in bad:
        response = post(
            replica,
            params={"job_id": job_id, "token": bench.token(job_id)},
            content=body,
            headers=headers,
        )
        assert problem(response) == (401, "unauthorized"), headers
    assert bench.inbox(job_id) == []


def test_secrets_rotate(bench: Bench, service_env: dict[str, str], tmp_path: Path) -> None:
    old, new = (webhooks.secret_from_bytes(bytes([number]) * 32) for number in (1, 2))
    old_key, new_key = "o" * 32, "n" * 32
    changes = {
        "WEBHOOK_SECRETS": f"{new},{old}",
        "CALLBACK_TOKEN_SECRETS": f"{new_key} {old_key}",
    }
    with running(service_env, tmp_path / "log", **changes) as replica:
        for secret in (old, new):
            job_id, body = bench.job(), json.dumps(DONE).encode()
            headers = bench.signed(body, secrets=[secret])
            answer = post(replica, params={"job_id": job_id}, content=body, headers=headers)
            assert answer.status_code == 202
        for key in (old_key, new_key):
            job_id = bench.job()
            query = {"job_id": job_id, "token": webhooks.callback_token(job_id, secret=key)}
            assert post(replica, params=query, json=DONE).status_code == 202
        job_id, body = bench.job(), json.dumps(DONE).encode()
        retired = bench.signed(body)
        assert (
            post(replica, params={"job_id": job_id}, content=body, headers=retired).status_code
            == 401
        )


def test_secrets_and_tokens_are_not_logged(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    query = {"job_id": job_id, "token": bench.token(job_id)}
    assert post(replica, params=query, json=DONE).status_code == 202
    post(replica, params=query | {"token": query["token"][:-1] + "!"}, json=DONE)

    wait_until(lambda: job_id in replica.log)
    secrets = [
        bench.token(job_id)[:-1],
        *bench.settings.webhook_secret_texts(),
        *bench.settings.callback_token_secret_texts(),
        bench.authorization["Authorization"].split()[1],
    ]
    assert [secret for secret in secrets if secret in replica.log] == []


# -- what is no report


def test_an_unknown_job_is_404_for_those_who_may_report_only(
    bench: Bench, replica: Replica
) -> None:
    assert problem(bench.report(replica, "unknown", DONE)) == (404, "not_found")
    query = {"job_id": "unknown", "token": bench.token("unknown")}
    assert problem(post(replica, params=query, json=DONE)) == (404, "not_found")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"status": "maybe"}', b'{"status": "done", "progress": -1}']
)
def test_what_is_no_report_is_422(bench: Bench, replica: Replica, body: bytes) -> None:
    response = post(
        replica, params={"job_id": bench.job()}, content=body, headers=bench.signed(body)
    )
    assert problem(response) == (422, "unprocessable")


def test_two_jobs_in_one_report_are_422(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()

    assert problem(bench.report(replica, job_id, DONE | {"job_id": bench.job()}))[0] == 422
    assert bench.inbox(job_id) == []


def test_a_job_id_with_nul_is_422(bench: Bench, replica: Replica) -> None:
    assert problem(bench.report(replica, "a\0b", DONE)) == (422, "invalid_request")
    assert problem(bench.get(replica, "/jobs/a%00b"))[0] == 422


@pytest.mark.parametrize("chunked", [False, True])
def test_more_than_a_mebibyte_is_413(bench: Bench, replica: Replica, chunked: bool) -> None:  # noqa: FBT001
    body = json.dumps(DONE | {"padding": "x" * 1024 * 1024}).encode()
    response = post(
        replica,
        params={"job_id": bench.job()},
        content=iter([body]) if chunked else body,
        headers=bench.signed(body),
    )
    assert problem(response)[0] == 413


def test_what_postgres_cannot_store_does_not_lose_the_result(
    bench: Bench, replica: Replica
) -> None:
    job_id = bench.job()
    report = DONE | {"message": "odd\0 \ud800", "result": {"word\0": "a\0b"}}

    assert bench.report(replica, job_id, report).status_code == 202
    assert bench.outcomes(job_id) == ["applied"]
    assert bench.view(job_id).result == {"word": "ab"}


def test_an_overlong_webhook_id_is_422(bench: Bench, replica: Replica) -> None:
    assert problem(bench.report(replica, bench.job(), DONE, webhook_id="x" * 300))[0] == 422


# -- any number of times, in any order


def test_a_hundred_identical_reports_at_once_are_one(bench: Bench, replicas: list[Replica]) -> None:
    job_id = bench.job()
    body = json.dumps(DONE).encode()
    headers = bench.signed(body)

    def send(number: int) -> httpx.Response:
        return post(replicas[number % 2], params={"job_id": job_id}, content=body, headers=headers)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(100)))

    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["delivery"] for answer in answers) == list(range(1, 101))
    assert sum(answer.json()["duplicate"] for answer in answers) == 99
    assert bench.outcomes(job_id) == ["applied"]
    assert [row.deliveries for row in bench.inbox(job_id)] == [100]
    events = [event for event in bench.events(job_id) if event.status is JobStatus.COMPLETED]
    assert [event.type for event in events] == [EventType.STATUS]


def test_of_a_hundred_reports_with_ids_of_their_own_one_counts(
    bench: Bench, replicas: list[Replica]
) -> None:
    job_id = bench.job()

    def send(number: int) -> httpx.Response:
        report = {"status": "completed", "result": {"number": number}}
        return bench.report(replicas[number % 2], job_id, report)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(100)))

    assert {answer.status_code for answer in answers} == {202}

    outcomes = bench.outcomes(job_id)
    assert outcomes.count("applied") == 1
    assert outcomes.count("ignored: job is completed") == 99
    events = [event for event in bench.events(job_id) if event.status is JobStatus.COMPLETED]
    assert [event.type for event in events].count(EventType.STATUS) == 1
    assert [event.type for event in events].count(EventType.IGNORED) == 99
    winner = next(row for row in bench.inbox(job_id) if row.outcome == "applied")
    assert bench.view(job_id).result == winner.payload["result"]


def test_a_legacy_report_is_recognised_by_what_it_says(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    query = {"job_id": job_id, "token": bench.token(job_id)}

    first = post(replica, params=query, content=b'{"status":"running","progress":10}')
    again = post(replica, params=query, content=b'{ "progress": 10, "status": "running" }')
    other = post(replica, params=query, content=b'{"status":"running","progress":11}')

    assert [answer.json()["delivery"] for answer in (first, again, other)] == [1, 2, 1]


def test_an_id_that_is_used_again_keeps_the_first_report(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    webhook_id = f"msg_{uuid.uuid4().hex}"

    bench.report(replica, job_id, {"status": "failed", "error": "no"}, webhook_id=webhook_id)
    answer = bench.report(replica, job_id, DONE, webhook_id=webhook_id)

    assert answer.json()["duplicate"] is True
    assert bench.outcomes(job_id) == ["applied"]
    assert bench.view(job_id).status is JobStatus.FAILED
    wait_until(lambda: "webhook.id_reused" in replica.log)


def test_a_captured_webhook_is_good_for_its_job_only(bench: Bench, replicas: list[Replica]) -> None:
    """The signature covers the body and the id; which job it is about may stand in the query."""
    job_id, other = bench.job(), bench.job()
    body = json.dumps(DONE).encode()
    captured = bench.signed(body)

    first = post(replicas[0], params={"job_id": job_id}, content=body, headers=captured)
    replayed = [
        post(replica, params={"job_id": other}, content=body, headers=captured)
        for replica in replicas
    ]
    again = post(replicas[1], params={"job_id": job_id}, content=body, headers=captured)

    assert first.status_code == 202
    assert [problem(answer) for answer in replayed] == [(409, "webhook_of_another_job")] * 2
    assert (again.status_code, again.json()["delivery"]) == (202, 2)
    assert bench.outcomes(job_id) == ["applied"]
    assert bench.inbox(other) == []
    assert bench.view(other).status is JobStatus.QUEUED_FOR_ANALYSIS


@pytest.mark.parametrize("final", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_what_comes_late_is_recorded_and_changes_nothing(
    bench: Bench, replica: Replica, final: JobStatus
) -> None:
    job_id = bench.job()
    bench.change(job_id, final)
    before = bench.view(job_id)

    for report in (DONE, {"status": "failed", "error": "x"}, {"status": "running", "progress": 5}):
        assert bench.report(replica, job_id, report).status_code == 202

    assert bench.outcomes(job_id) == [f"ignored: job is {final}"] * 3
    after = bench.view(job_id)
    unchanged = {"status", "progress", "result", "error", "metadata", "finished_at", "message"}
    assert after.model_dump(include=unchanged) == before.model_dump(include=unchanged)
    assert [event.type for event in bench.events(job_id)][-3:] == [EventType.IGNORED] * 3


def test_progress_never_goes_back(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()

    for percent in (20, 60, 40, 60, 90):
        bench.report(replica, job_id, {"status": "processing", "progress": percent})
        bench.outcomes(job_id)

    applied = [row.outcome for row in bench.inbox(job_id)]
    assert applied == [
        "applied",
        "applied",
        "ignored: job is at 91 per cent already",
        "applied",
        "applied",
    ]
    view = bench.view(job_id)
    assert (view.status, view.progress) == (JobStatus.QUEUED_FOR_ANALYSIS, 97)
    assert view.metadata == {"analysis_progress": 90}
    figures = [event.progress for event in bench.events(job_id)]
    assert figures == sorted(figures)


def test_an_answer_may_come_before_the_question_was_noted(bench: Bench, replica: Replica) -> None:
    job_id = bench.job(JobStatus.PROCESSING)

    bench.report(replica, job_id, DONE)

    assert bench.outcomes(job_id) == ["applied"]
    assert bench.view(job_id).status is JobStatus.COMPLETED


def test_the_trace_goes_along(bench: Bench, replica: Replica, replicas: list[Replica]) -> None:
    job_id, trace = bench.job(), uuid.uuid4().hex
    traced = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}

    answer = bench.report(replica, job_id, DONE, headers=traced)

    assert answer.headers["x-trace-id"] == trace
    assert bench.inbox(job_id)[0].trace["traceparent"].split("-")[1] == trace

    def applied() -> dict[str, str] | None:
        lines = [line for one in replicas for line in one.log.splitlines() if job_id in line]
        told: list[dict[str, str]] = [json.loads(line) for line in lines if line.endswith("}")]
        return next((line for line in told if line["event"] == "report.applied"), None)

    # Either replica may apply it, and says so after it is.
    assert wait_until(applied)["trace_id"] == trace


# -- when servers are away


def test_without_redis_a_report_is_kept_and_applied(
    bench: Bench, replica: Replica, local_servers: LocalServers
) -> None:
    job_id = bench.job()
    local_servers.stop("valkey")
    try:
        answer = bench.report(replica, job_id, DONE)
        assert answer.status_code == 202
        assert answer.elapsed < timedelta(seconds=20)
        assert bench.outcomes(job_id) == ["applied"]
        health = httpx.get(f"{replica.url}/health", timeout=30)
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
    finally:
        local_servers.start("valkey")
    assert bench.view(job_id).status is JobStatus.COMPLETED


def test_without_the_database_a_report_is_refused_and_may_come_again(
    bench: Bench, replica: Replica, local_servers: LocalServers
) -> None:
    job_id = bench.job()
    local_servers.stop("postgres")
    try:
        assert problem(bench.report(replica, job_id, DONE)) == (503, "unavailable")
        assert httpx.get(f"{replica.url}/health/ready", timeout=30).status_code == 503
        assert httpx.get(f"{replica.url}/health/live", timeout=30).status_code == 200
    finally:
        local_servers.start("postgres")
    answer = wait_until(
        lambda: bench.report(replica, job_id, DONE), lambda answer: answer.status_code == 202
    )
    assert answer.json()["delivery"] == 1
    assert bench.outcomes(job_id) == ["applied"]
