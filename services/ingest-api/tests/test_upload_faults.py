import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from ingest_audio import large_wav, recording
from ingest_harness import FORM_HEADERS, Backend, Gate, IngestApi, RawUpload, StartApi, form

from headrace_common.contracts import JobStatus
from headrace_common.db import Job
from headrace_local.waiting import wait_until

MIB = 1024 * 1024
CUT = 7 * MIB

pytestmark = pytest.mark.stack


def begin(api: IngestApi, backend: Backend, token: str, content: bytes) -> tuple[RawUpload, Job]:
    """Send more than a part of a file, until S3 has a multipart upload of it."""
    upload = RawUpload(api, token)
    upload.send(form(content, whole=False)[:CUT])
    [job] = wait_until(lambda: backend.jobs_of(token))
    wait_until(lambda: backend.open_uploads(job.id))
    return upload, job


def ended(backend: Backend, job: Job, code: str) -> None:
    """Wait until the job says `code`, and see that S3 keeps nothing of it."""
    wait_until(lambda: backend.job(job.id).error_code == code)
    assert backend.job(job.id).status == JobStatus.FAILED
    assert backend.job(job.id).error_message
    wait_until(lambda: backend.keeps_nothing_of(job))


def test_a_client_that_disconnects_leaves_a_failed_job_and_nothing_in_s3(
    api: IngestApi, backend: Backend, token: str
) -> None:
    upload, job = begin(api, backend, token, large_wav(12 * MIB))
    upload.close()
    ended(backend, job, "client_disconnected")
    wait_until(lambda: api.metric("headrace_uploads_in_flight") == 0)


def test_a_client_that_stalls_is_408(strict_api: IngestApi, backend: Backend, token: str) -> None:
    upload, job = begin(strict_api, backend, token, large_wav(12 * MIB))
    status, answer, _ = upload.answer()
    assert (status, answer["code"]) == (408, "request_timeout")
    ended(backend, job, "request_timeout")


def test_a_client_that_dribbles_is_408(strict_api: IngestApi, backend: Backend, token: str) -> None:
    upload = RawUpload(strict_api, token)
    body = form(recording("wav"))

    def dribbled() -> bool:
        nonlocal body
        upload.send(body[:1])
        body = body[1:]
        return upload.has_answer()

    wait_until(dribbled)
    assert upload.answer()[0] == 408
    assert backend.jobs_of(token) == []


def test_a_slow_client_is_served(strict_api: IngestApi, backend: Backend, token: str) -> None:
    body = form(recording("wav"))
    upload = RawUpload(strict_api, token, length=len(body))
    size = len(body) // 60 + 1  # longer than the stall time in all
    for start in range(0, len(body), size):
        assert not upload.has_answer()  # waits a fortieth of the stall time
        upload.send(body[start : start + size])
    assert upload.answer()[0] == 200


def test_too_large_is_413_while_streaming_and_nothing_stays(
    strict_api: IngestApi, backend: Backend, token: str
) -> None:
    # Chunked: nothing tells beforehand. httpx reads no answer before it has sent everything.
    body = form(large_wav(40 * MIB))
    pieces = (body[start : start + MIB] for start in range(0, len(body), MIB))
    answer = strict_api.client.post(
        f"/tokens/{token}/upload-audio", content=pieces, headers=FORM_HEADERS
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    assert answer.json()["max_upload_bytes"] == 12 * MIB
    [job] = backend.jobs_of(token)
    ended(backend, job, "upload_too_large")


def test_the_largest_file_is_taken_and_a_byte_more_is_not(
    strict_api: IngestApi, backend: Backend, token: str
) -> None:
    assert strict_api.upload(token, large_wav(12 * MIB)).status_code == 200
    assert strict_api.upload(token, large_wav(12 * MIB + 1)).status_code == 413
    ended(backend, backend.jobs_of(token)[-1], "upload_too_large")


def test_too_large_by_its_length_is_413_before_a_byte_is_read(
    strict_api: IngestApi, backend: Backend, token: str
) -> None:
    upload = RawUpload(strict_api, token, length=200 * MIB, headers={"Expect": "100-continue"})
    status, answer, headers = upload.answer()
    assert (status, answer["code"], headers["connection"]) == (413, "upload_too_large", "close")
    assert backend.jobs_of(token) == []


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/tokens/{token}/upload-audio", [], 413),
        ("/tokens/{token}/upload-audio", ["-H", "Expect:"], 413),
        ("/tokens/{token}/upload-audio", ["-H", "Transfer-Encoding: chunked"], 413),
        ("/tokens/nobody/upload-audio", ["-H", "Transfer-Encoding: chunked"], 404),
        ("/nowhere", ["-H", "Transfer-Encoding: chunked"], 404),
    ],
)
def test_curl_gets_the_answer_to_200_mb(
    strict_api: IngestApi, token: str, tmp_path: Path, path: str, options: list[str], status: int
) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    file = tmp_path / "large.wav"
    with file.open("wb") as sparse:
        sparse.write(large_wav(MIB))
        sparse.truncate(200 * MIB)
    command = [curl, "-sS", "-o", str(tmp_path / "answer"), "-w", "%{http_code} %{content_type}"]
    command += ["-H", f"Authorization: Bearer {strict_api.key}", "-F", f"file=@{file}", *options]
    done = subprocess.run(
        [*command, strict_api.url + path.format(token=token)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{status} application/problem+json"


def test_more_uploads_than_places_are_503_with_retry_after(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    api = start_api(MAX_CONCURRENT_UPLOADS="2")
    held = [RawUpload(api, token) for _ in range(2)]
    for upload in held:
        upload.send(form(recording("wav"), whole=False)[:100])
    wait_until(lambda: api.metric("headrace_uploads_in_flight") == 2)
    answer = api.upload(token, recording("wav"))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    for upload in held:
        upload.close()
    wait_until(lambda: api.metric("headrace_uploads_in_flight") == 0)
    assert api.upload(token, recording("wav")).status_code == 200


def test_a_job_cancelled_during_its_upload_ends_it_with_409(
    api: IngestApi, backend: Backend, token: str
) -> None:
    content = large_wav(12 * MIB)
    upload, job = begin(api, backend, token, content)
    assert api.client.delete(f"/jobs/{job.id}/cancel").json()["status"] == "cancelled"
    upload.send(form(content)[CUT:])
    upload.finish()
    status, answer, _ = upload.answer()
    assert (status, answer["code"]) == (409, "job_not_uploading")
    assert (answer["job_id"], answer["job_status"]) == (job.id, "cancelled")
    assert backend.job(job.id).status == JobStatus.CANCELLED
    wait_until(lambda: backend.keeps_nothing_of(job))


def test_a_cancelled_upload_need_not_be_sent_to_its_end(
    api: IngestApi, backend: Backend, token: str
) -> None:
    upload, job = begin(api, backend, token, large_wav(12 * MIB))
    api.client.delete(f"/jobs/{job.id}/cancel").raise_for_status()

    def refused() -> bool:
        upload.send(b"\0" * 1_000)
        return upload.has_answer()

    wait_until(refused)
    assert upload.answer()[0] == 409
    wait_until(lambda: backend.keeps_nothing_of(job))


def test_without_redis_a_job_is_accepted_and_stays_queuing(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    gate = Gate(backend.settings.redis_url_with_password())
    gate.shut()
    try:
        api = start_api(REDIS_URL=gate.url)
        api.wait_ready()
        checks = api.client.get("/health/ready").json()
        assert (checks["status"], checks["checks"]["redis"]["ok"]) == ("degraded", False)
        answer = api.upload(token, recording("wav"))
        assert answer.status_code == 200
        body = answer.json()
        assert (body["status"], body["queue_position"]) == ("queuing", 0)
        job = backend.job(body["job_id"])
        assert (job.status, job.progress) == ("queuing", 40)
        assert job.queue_message_id == body["queue_message_id"] == body["rq_job_id"]
        gate.open()
        assert api.upload(token, recording("wav")).json()["status"] == "queued"
    finally:
        gate.close()


def test_without_postgres_it_is_503_and_nothing_stays(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    gate = Gate(backend.settings.database_url.get_secret_value())
    try:
        api = start_api(DATABASE_URL=gate.url)
        api.wait_ready()
        content = large_wav(12 * MIB)
        upload, job = begin(api, backend, token, content)
        gate.shut()
        upload.send(form(content)[CUT:])
        upload.finish()
        status, _, headers = upload.answer()
        assert status == 503
        assert int(headers["retry-after"]) > 0
        wait_until(lambda: backend.keeps_nothing_of(job))
        refused = api.upload(token, recording("wav"))
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert api.client.get("/health/ready").status_code == 503
        gate.open()
        assert api.upload(token, recording("wav")).status_code == 200
    finally:
        gate.close()


def test_postgres_that_goes_away_with_its_answer_keeps_the_recording(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    """The commit that accepts the job arrived, and nobody here can know: the job needs its file."""
    gate = Gate(backend.settings.database_url.get_secret_value())
    try:
        api = start_api(DATABASE_URL=gate.url)
        api.wait_ready()
        content = recording("wav")
        gate.shut_at_commit_of(b'"queuing"')
        assert api.upload(token, content).status_code == 503
        [job] = backend.jobs_of(token)
        # The server commits what it was sent, perhaps after we were told that it is away.
        wait_until(lambda: backend.job(job.id).status, lambda status: status == JobStatus.QUEUING)
        assert backend.object(job.input["s3_audio_url"]) == content
    finally:
        gate.close()


@pytest.mark.parametrize("size", [MIB, 12 * MIB])
def test_without_s3_the_job_fails_and_it_is_503(
    start_api: StartApi, backend: Backend, token: str, size: int
) -> None:
    assert backend.settings.s3_endpoint_url is not None
    gate = Gate(backend.settings.s3_endpoint_url)
    gate.shut()
    try:
        api = start_api(S3_ENDPOINT_URL=gate.url)
        assert api.client.get("/health/ready").status_code == 503
        answer = api.upload(token, large_wav(size))
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        [job] = backend.jobs_of(token)
        assert (job.status, job.error_code) == ("failed", "storage_unavailable")
        assert "storage" in str(job.error_message)
        gate.open()
        assert api.upload(token, large_wav(size)).status_code == 200
    finally:
        gate.close()


def test_s3_that_goes_away_in_between_fails_the_upload_before_its_end(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    assert backend.settings.s3_endpoint_url is not None
    gate = Gate(backend.settings.s3_endpoint_url)
    try:
        api = start_api(S3_ENDPOINT_URL=gate.url)
        api.wait_ready()
        upload, job = begin(api, backend, token, large_wav(12 * MIB))
        gate.shut()

        def refused() -> bool:
            upload.send(b"\0" * MIB)
            return upload.has_answer()

        wait_until(refused)
        assert upload.answer()[0] == 503
        wait_until(lambda: backend.job(job.id).error_code == "storage_unavailable")
    finally:
        gate.close()


def test_a_stop_lets_uploads_finish_then_ends_them_and_puts_everything_away(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    api = start_api(SHUTDOWN_GRACE_SECONDS="1")
    api.wait_ready()
    upload, job = begin(api, backend, token, large_wav(12 * MIB))
    api.stop(signal.SIGTERM)
    upload.close()
    ended(backend, job, "upload_interrupted")


def test_a_stop_waits_for_an_upload_that_ends_in_time(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    api = start_api(SHUTDOWN_GRACE_SECONDS="120")
    api.wait_ready()
    content = large_wav(12 * MIB)
    upload, job = begin(api, backend, token, content)
    api.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Shutting down" in api.log)
    upload.send(form(content)[CUT:])
    upload.finish()
    assert upload.answer()[0] == 200
    assert api.process.wait(timeout=60) is not None
    assert backend.job(job.id).status == JobStatus.QUEUED


def test_legacy_endpoints_open_without_a_key_only_by_setting(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    api = start_api(LEGACY_OPEN_ENDPOINTS="true")
    api.wait_ready()
    with httpx.Client(base_url=api.url, timeout=30) as nobody:
        answer = nobody.post(
            f"/tokens/{token}/upload-audio", files={"file": ("a.wav", recording("wav"))}
        )
        assert answer.status_code == 200
        assert backend.job(answer.json()["job_id"]).created_by is None
        assert nobody.get("/queue/status").status_code == 200
        assert nobody.get("/tokens/queue/status").status_code == 200
        assert nobody.delete(f"/jobs/{answer.json()['job_id']}/cancel").status_code == 200
        # The new endpoints stay closed, and a wrong key is wrong everywhere.
        assert nobody.get("/tokens").status_code == 401
        assert nobody.post("/tokens", json={}).status_code == 401
        wrong = {"Authorization": "Bearer hr_000000000000_wrong"}
        assert nobody.get("/queue/status", headers=wrong).status_code == 401
