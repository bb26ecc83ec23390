import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from direct_client import MIB, DirectClient
from ingest_audio import large_wav, recording
from ingest_harness import Backend, Gate, IngestApi, StartApi
from sqlalchemy import update

from headrace_common.contracts import JobStatus, Lane
from headrace_common.db import DirectUpload
from headrace_ingest_api.direct.declared import declared
from headrace_ingest_api.direct.layout import Layout, StoredPart, compare
from headrace_ingest_api.errors import UnsupportedAudioError
from headrace_ingest_api.recognition import Container
from headrace_local.waiting import wait_until

SIZE = 12 * MIB  # three parts of 5 MiB

stack = pytest.mark.stack


@pytest.fixture(scope="module")
def direct_api(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestApi]:
    started = IngestApi(
        backend,
        tmp_path_factory.mktemp("ingest") / "log",
        DIRECT_UPLOAD_PART_BYTES=str(5 * MIB),
        MAX_UPLOAD_BYTES=str(40 * MIB),
    )
    try:
        started.wait_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture
def client(direct_api: IngestApi, token: str) -> DirectClient:
    made = DirectClient(direct_api, token, large_wav(SIZE))
    assert made.open().status_code == 201
    return made


@stack
def test_parts_go_to_s3_and_the_job_goes_the_usual_way(
    client: DirectClient, backend: Backend
) -> None:
    assert (client.opened["part_count"], client.opened["missing"]) == (3, [1, 2, 3])
    assert [url["size"] for url in client.opened["urls"]] == [5 * MIB, 5 * MIB, 2 * MIB]
    job = backend.job(client.job_id)
    assert (job.status, job.progress) == ("uploading", 10)
    for url in client.opened["urls"]:
        assert client.put(url).status_code == 200
    answer = client.complete()
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["priority"], body["queue_position"] > 0) == (
        "queued", "normal", True,
    )  # fmt: skip
    assert backend.message(Lane.NORMAL, body["queue_message_id"]) is not None
    job = backend.job(client.job_id)
    assert backend.object(job.input["s3_audio_url"]) == client.content
    assert job.input["sha256"] == client.body["sha256"]
    assert job.meta["audio"]["format"] == "wav"
    assert client.view()["state"] == "accepted"
    assert client.complete().json()["job_id"] == client.job_id
    assert client.abort().status_code == 409
    assert [event.status for event in backend.timeline(client.job_id)].count(JobStatus.QUEUED) == 1


@stack
def test_s3_refuses_a_part_with_a_flipped_byte_and_only_that_one_is_sent_again(
    client: DirectClient,
) -> None:
    client.send(1, 3)
    url = client.url(2, md5=client.md5(2))
    flipped = bytes([client.part(2)[0] ^ 1]) + client.part(2)[1:]
    assert client.put(url, flipped).status_code == 400
    assert client.view()["missing"] == [2]
    refused = client.complete()
    assert (refused.status_code, refused.json()["code"]) == (409, "parts_missing")
    assert refused.json()["missing"] == [2]
    assert client.put(url).status_code == 200
    assert client.complete().status_code == 200


@stack
def test_a_part_that_differs_from_what_the_client_says_is_named(client: DirectClient) -> None:
    client.send(1, 3)
    flipped = bytes([client.part(2)[0] ^ 1]) + client.part(2)[1:]
    assert client.put(client.url(2), flipped).status_code == 200
    etags = {number: client.md5(number) for number in (1, 2, 3)}
    refused = client.complete(etags)
    assert (refused.status_code, refused.json()["wrong"]) == (409, [2])
    client.send(2)
    assert client.complete(etags).status_code == 200


@stack
def test_a_wrong_file_fails_its_job_and_is_not_kept(client: DirectClient, backend: Backend) -> None:
    client.send(1, 3)
    assert client.put(client.url(2), client.part(1)).status_code == 200
    refused = client.complete()
    assert (refused.status_code, refused.json()["code"]) == (422, "checksum_mismatch")
    job = backend.job(client.job_id)
    assert (job.status, job.error_code) == ("failed", "checksum_mismatch")
    assert backend.keeps_nothing_of(job)
    again = client.complete()
    assert (again.status_code, again.json()["code"]) == (409, "job_not_uploading")


@stack
def test_a_part_of_another_size_is_refused_by_its_signature(client: DirectClient) -> None:
    assert client.put(client.url(1), client.part(1)[:-1]).status_code == 403


@stack
@pytest.mark.parametrize(
    ("content", "code", "status"),
    [(b"RIFF....WAVEnothing", "broken_audio", 422), (b"plain text", "unsupported_audio", 415)],
)
def test_what_is_no_recording_fails_at_the_end(
    direct_api: IngestApi, backend: Backend, token: str, content: bytes, code: str, status: int
) -> None:
    client = DirectClient(direct_api, token, content, sha256=None)
    client.open().raise_for_status()
    client.send_all()
    refused = client.complete()
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    job = backend.job(client.job_id)
    assert (job.status, job.error_code) == ("failed", code)
    assert backend.keeps_nothing_of(job)


@stack
def test_the_content_decides_what_a_file_is(
    direct_api: IngestApi, backend: Backend, token: str
) -> None:
    client = DirectClient(direct_api, token, recording("flac"), filename="a.wav", priority="high")
    client.open().raise_for_status()
    client.send_all()
    assert client.complete().json()["priority"] == "high"
    assert backend.job(client.job_id).input["content_type"] == "audio/flac"


@stack
def test_completions_at_the_same_time_get_the_same_answer(
    client: DirectClient, direct_api: IngestApi, start_api: StartApi, backend: Backend
) -> None:
    other = start_api()
    client.send_all()
    answers: list[httpx.Response] = []

    def complete(api: IngestApi) -> None:
        path = f"/direct-uploads/{client.job_id}/complete"
        answers.append(httpx.post(
            api.url + path, headers={"Authorization": f"Bearer {api.key}"}, timeout=60
        ))  # fmt: skip

    threads = [
        threading.Thread(target=complete, args=(api,))
        for api in (direct_api, other, direct_api, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["queue_message_id"] for answer in answers}) == 1
    changes = [event.status for event in backend.timeline(client.job_id) if event.type == "status"]
    assert changes.count(JobStatus.QUEUING) == 1


@stack
def test_a_crash_after_s3_made_the_object_is_harmless(
    client: DirectClient, backend: Backend
) -> None:
    client.send_all()
    with backend.database.begin() as session:
        row = session.get(DirectUpload, client.job_id)
        assert row is not None
    parts = [{"PartNumber": one["number"], "ETag": one["etag"]} for one in client.view()["parts"]]
    backend.s3.complete_multipart_upload(
        Bucket=row.bucket, Key=row.key, UploadId=row.upload_id, MultipartUpload={"Parts": parts}
    )
    assert client.view()["state"] == "stored"
    assert client.complete().status_code == 200


@stack
def test_a_crash_during_the_completion_is_repeated(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    gate = Gate(backend.settings.database_url.get_secret_value())
    try:
        api = start_api(DATABASE_URL=gate.url, DIRECT_UPLOAD_PART_BYTES=str(5 * MIB))
        api.wait_ready()
        client = DirectClient(api, token, large_wav(SIZE))
        client.open().raise_for_status()
        client.send_all()
        gate.shut_at_commit_of(b'"queuing"')
        assert client.complete().status_code == 503
        api.stop(signal.SIGKILL)
        client.api = start_api()
        answer = client.complete()
        assert answer.status_code == 200
        assert backend.object(backend.job(client.job_id).input["s3_audio_url"]) is not None
    finally:
        gate.close()


@stack
def test_an_upload_that_s3_has_forgotten_fails_for_good(
    client: DirectClient, backend: Backend
) -> None:
    with backend.database.begin() as session:
        row = session.get(DirectUpload, client.job_id)
        assert row is not None
    backend.s3.abort_multipart_upload(Bucket=row.bucket, Key=row.key, UploadId=row.upload_id)
    refused = client.complete()
    assert (refused.status_code, refused.json()["code"]) == (409, "object_missing")
    assert backend.job(client.job_id).error_code == "object_missing"


@pytest.mark.usefixtures("tidying")
@stack
@pytest.mark.parametrize("how", ["abort", "cancel"])
def test_giving_up_leaves_nothing(client: DirectClient, backend: Backend, how: str) -> None:
    client.send(1)
    if how == "abort":
        assert client.abort().json()["state"] == "ended"
        assert client.abort().json()["job_status"] == "cancelled"
    else:
        path = f"/jobs/{client.job_id}/cancel"
        client.api.client.delete(path).raise_for_status()
    job = backend.job(client.job_id)
    assert job.status == JobStatus.CANCELLED
    wait_until(lambda: backend.keeps_nothing_of(job))
    wait_until(lambda: backend.job(client.job_id).discarded_at)
    assert client.complete().status_code == 409
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        client.url(2)


@pytest.mark.usefixtures("tidying")
@stack
def test_an_abandoned_upload_expires(client: DirectClient, backend: Backend) -> None:
    client.send(1)
    with backend.database.begin() as session:
        session.execute(
            update(DirectUpload)
            .where(DirectUpload.job_id == client.job_id)
            .values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        )
    job = wait_until(lambda: backend.job(client.job_id), lambda job: job.discarded_at is not None)
    assert (job.status, job.error_code) == ("failed", "upload_abandoned")
    assert backend.keeps_nothing_of(job)
    with backend.database.begin() as session:
        row = session.get(DirectUpload, client.job_id)
        assert row is not None
        assert (row.completed_at, row.aborted_at is not None) == (None, True)


@stack
def test_an_idempotency_key_opens_one_upload(client: DirectClient, backend: Backend) -> None:
    first = client.open(**{"Idempotency-Key": f"direct-{client.token}"}).json()
    client.send(2)
    again = client.open(**{"Idempotency-Key": f"direct-{client.token}"})
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["job_id"] == first["job_id"]
    assert [url["number"] for url in again.json()["urls"]] == [1, 3]
    client.body["size"] = 7
    other = client.open(**{"Idempotency-Key": f"direct-{client.token}"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(backend.jobs_of(client.token)) == 2


@stack
def test_what_cannot_be_taken_is_refused_before_a_job_is_made(
    direct_api: IngestApi, start_api: StartApi, backend: Backend, token: str
) -> None:
    for changes, status, code in (
        ({"size": 41 * MIB}, 413, "upload_too_large"),
        ({"filename": "notes.txt"}, 415, "unsupported_audio"),
        ({"size": 0}, 422, "invalid_request"),
        ({"sha256": "00"}, 422, "invalid_request"),
    ):
        refused = DirectClient(direct_api, token, b"RIFF", **changes).open()
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert DirectClient(direct_api, "nobody", b"RIFF").open().status_code == 404
    assert direct_api.client.get("/direct-uploads/nothing").status_code == 404
    assert backend.jobs_of(token) == []
    nobody = httpx.post(f"{direct_api.url}/tokens/{token}/direct-uploads", json={}, timeout=30)
    assert nobody.status_code == 401


@stack
def test_more_uploads_than_a_key_may_have_open_are_429(
    start_api: StartApi, backend: Backend, token: str
) -> None:
    with backend.database.begin() as session:
        open_now = session.query(DirectUpload).filter(
            DirectUpload.completed_at.is_(None), DirectUpload.aborted_at.is_(None)
        )
        most = open_now.count() + 1
    api = start_api(MAX_OPEN_DIRECT_UPLOADS=str(most))
    client = DirectClient(api, token, recording("wav"))
    answers = [client.open() for _ in range(most + 1)]
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_direct_uploads")
    assert int(refused.headers["retry-after"]) > 0


@stack
def test_logs_have_no_signature(client: DirectClient, direct_api: IngestApi) -> None:
    client.url(1)
    assert "X-Amz-Signature" not in direct_api.log


@pytest.mark.parametrize(
    ("size", "part_bytes", "count", "last"),
    [(1, 5, 1, 1), (5, 5, 1, 5), (6, 5, 2, 1), (10_000 * 5 + 1, 5, 8_334, 3)],
)
def test_a_layout_covers_the_file(size: int, part_bytes: int, count: int, last: int) -> None:
    layout = Layout.of(size, part_bytes=part_bytes)
    assert (layout.count, layout.bytes_of(layout.count)) == (count, last)
    assert sum(layout.bytes_of(number) for number in range(1, count + 1)) == size
    assert not layout.has(0)
    assert not layout.has(count + 1)


def test_of_a_part_that_is_listed_twice_the_last_right_one_counts() -> None:
    layout = Layout(10, 5)
    stored = [StoredPart(1, 5, "a"), StoredPart(1, 5, "b"), StoredPart(2, 4, "c")]
    found = compare(layout, stored, {})
    assert (found.parts, found.missing, found.wrong) == ({1: stored[1]}, [], [2])
    assert compare(layout, stored, {1: "a"}).parts == {1: stored[0]}
    assert compare(layout, stored, {1: "x"}).wrong == [1, 2]
    assert compare(layout, [], {}).missing == [1, 2]


def test_a_kind_is_declared_by_type_or_name() -> None:
    assert declared("a.txt", "audio/ogg; codecs=opus") is Container.OGG
    assert declared("A.WAVE", "application/octet-stream") is Container.WAV
    with pytest.raises(UnsupportedAudioError):
        declared("notes", None)
