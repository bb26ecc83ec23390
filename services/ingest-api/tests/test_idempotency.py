import signal
import threading
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from ingest_audio import large_wav, recording
from ingest_harness import Backend, IngestApi, RawUpload, StartApi, form

from headrace_common.db import Database, IdempotencyKey
from headrace_common.keys import Scope, create
from headrace_ingest_api.errors import KeyInUseError, KeyReusedError
from headrace_ingest_api.idempotency import (
    CLAIM_SECONDS,
    Claim,
    IdempotencyKeys,
    StoredAnswer,
)
from headrace_ingest_api.naming import recordings_folder
from headrace_local.waiting import wait_until

MIB = 1024 * 1024
KEY = "Idempotency-Key"

pytestmark = pytest.mark.stack


def test_a_repetition_gets_the_first_answer_and_makes_no_second_job(
    api: IngestApi, backend: Backend, token: str
) -> None:
    headers = {KEY: f"key-{token}"}
    first = api.upload(token, recording("wav"), headers=headers)
    assert first.status_code == 200
    assert "idempotent-replayed" not in first.headers
    again = api.upload(token, recording("wav"), headers=headers, filename="renamed.wav")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert [job.id for job in backend.jobs_of(token)] == [first.json()["job_id"]]


def stored(backend: Backend) -> set[str]:
    """Return the keys of the recordings of these days, and of uploads under way."""
    days = {recordings_folder(datetime.now(UTC) - timedelta(days=ago)) for ago in (0, 1)}
    pages = backend.s3.get_paginator("list_objects_v2")
    found = (
        each["Key"]
        for day in days
        for page in pages.paginate(Bucket=backend.bucket, Prefix=day)
        for each in page.get("Contents", [])
    )
    return {*found, *backend.open_uploads()}


def test_a_large_repetition_is_hashed_and_not_stored(
    api: IngestApi, backend: Backend, token: str
) -> None:
    headers = {KEY: f"key-{token}"}
    first = api.upload(token, large_wav(11 * MIB), headers=headers).json()
    before = stored(backend)
    assert api.upload(token, large_wav(11 * MIB), headers=headers).json() == first
    assert stored(backend) <= before, "others may put theirs away meanwhile"


def test_the_key_for_another_payload_is_422(api: IngestApi, backend: Backend, token: str) -> None:
    headers = {KEY: f"key-{token}"}
    other = f"{token}-other"
    api.client.post("/tokens", json={"id": other}).raise_for_status()
    assert api.upload(token, recording("wav"), headers=headers).status_code == 200
    for answer in (
        api.upload(token, recording("flac"), headers=headers),
        api.upload(token, recording("wav"), headers=headers, params={"priority": "high"}),
        api.upload(other, recording("wav"), headers=headers),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len(backend.jobs_of(token)) == 1
    assert backend.jobs_of(other) == []


def test_the_same_key_of_another_caller_is_another_key(
    api: IngestApi, backend: Backend, token: str
) -> None:
    with backend.database.begin() as session:
        second = create(session, name="second", scopes=[Scope.JOBS_WRITE]).secret_text
    headers = {KEY: f"key-{token}"}
    first = api.upload(token, recording("wav"), headers=headers)
    other = api.upload(
        token, recording("wav"), headers={**headers, "Authorization": f"Bearer {second}"}
    )
    assert other.status_code == 200
    assert other.json()["job_id"] != first.json()["job_id"]


def test_of_many_at_once_one_is_done_and_the_others_are_409_or_the_same(
    api: IngestApi, backend: Backend, token: str
) -> None:
    content, answers = large_wav(6 * MIB), []
    barrier = threading.Barrier(8)

    def send() -> None:
        barrier.wait()
        answers.append(
            httpx.post(
                f"{api.url}/tokens/{token}/upload-audio",
                files={"file": ("a.wav", content)},
                headers={"Authorization": f"Bearer {api.key}", KEY: f"key-{token}"},
                timeout=60,
            )
        )

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 200}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "idempotency_key_in_use"
            assert int(answer.headers["retry-after"]) > 0
    assert len(backend.jobs_of(token)) == 1


def test_while_the_first_is_under_way_the_second_is_409(
    api: IngestApi, backend: Backend, token: str
) -> None:
    key, content = f"key-{token}", recording("wav")
    first = RawUpload(api, token, headers={KEY: key})
    body = form(content)
    first.send(body[:-20])
    wait_until(lambda: backend.idempotency_row(key))
    second = api.upload(token, content, headers={KEY: key})
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_key_in_use")
    assert 1 <= int(second.headers["retry-after"]) <= 60
    first.send(body[-20:])
    first.finish()
    status, answer, _ = first.answer()
    assert status == 200
    assert api.upload(token, content, headers={KEY: key}).json() == answer


def test_a_failed_upload_gives_its_key_back(api: IngestApi, backend: Backend, token: str) -> None:
    headers = {KEY: f"key-{token}"}
    assert api.upload(token, b"RIFF\x24\0\0\0WAVEjunk", headers=headers).status_code == 422
    assert backend.idempotency_row(headers[KEY]) is None
    assert api.upload(token, b"no audio", headers=headers).status_code == 415
    gone = RawUpload(api, token, headers=headers)
    gone.send(form(recording("wav"), whole=False)[:1_000])
    wait_until(lambda: backend.idempotency_row(headers[KEY]))
    gone.close()
    wait_until(lambda: backend.idempotency_row(headers[KEY]) is None)
    assert api.upload(token, recording("wav"), headers=headers).status_code == 200


def test_after_a_crash_the_key_can_be_used_again(
    api: IngestApi, start_api: StartApi, backend: Backend, token: str
) -> None:
    doomed, key = start_api(), f"key-{token}"
    doomed.wait_ready()
    upload = RawUpload(doomed, token, headers={KEY: key})
    upload.send(form(recording("wav"))[:-20])
    wait_until(lambda: backend.jobs_of(token))
    doomed.stop(signal.SIGKILL)
    upload.close()
    assert api.upload(token, recording("wav"), headers={KEY: key}).status_code == 409
    with backend.database.begin() as session:  # a minute goes by
        row = session.get(IdempotencyKey, (_scope(api), key))
        assert row is not None
        row.locked_until -= timedelta(minutes=1)
    answer = api.upload(token, recording("wav"), headers={KEY: key})
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers


def test_without_redis_the_repetition_is_answered_too(start_api: StartApi, token: str) -> None:
    api = start_api(REDIS_URL="redis://127.0.0.1:1/0")
    api.wait_ready()
    headers = {KEY: f"key-{token}"}
    first = api.upload(token, recording("wav"), headers=headers)
    assert first.json()["status"] == "queuing"
    assert api.upload(token, recording("wav"), headers=headers).json() == first.json()


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a\tb"])
def test_a_key_that_is_none_is_400(api: IngestApi, token: str, key: str) -> None:
    answer = api.upload(token, recording("wav"), headers={KEY: key.encode()})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def _scope(api: IngestApi) -> str:
    return f"{api.key.split('_')[1]} upload-audio"


class TestClaims:
    """The guards, without the service."""

    @pytest.fixture
    def keys(self, database: Database) -> IdempotencyKeys:
        return IdempotencyKeys(database, keep=timedelta(hours=24))

    def test_a_claim_that_ran_out_can_be_taken_and_its_former_owner_is_powerless(
        self, database: Database
    ) -> None:
        brief = IdempotencyKeys(database, keep=timedelta(hours=24), claim_seconds=0)
        first, second = Claim("s", "k", "job-1"), Claim("s", "k", "job-2")
        assert brief.claim(first) is None
        assert brief.claim(second) is None
        with pytest.raises(KeyInUseError), database.begin() as session:
            brief.complete_in(session, first, "print", {"job_id": "job-1"})
        brief.release(first)
        with database.begin() as session:
            brief.complete_in(session, second, "print", {"job_id": "job-2"})
        assert brief.claim(first) == StoredAnswer("print", {"job_id": "job-2"})

    def test_a_renewed_claim_does_not_run_out(
        self, database: Database, keys: IdempotencyKeys
    ) -> None:
        brief = IdempotencyKeys(database, keep=timedelta(hours=24), claim_seconds=0)
        first = Claim("s", "k", "job-1")
        assert brief.claim(first) is None
        keys.renew(first)
        with pytest.raises(KeyInUseError) as refusal:
            keys.claim(Claim("s", "k", "job-2"))
        assert CLAIM_SECONDS / 2 < (refusal.value.retry_after or 0) <= CLAIM_SECONDS

    def test_an_answer_outlives_a_release_and_ends_with_its_time(
        self, database: Database, keys: IdempotencyKeys
    ) -> None:
        first = Claim("s", "k", "job-1")
        keys.claim(first)
        with database.begin() as session:
            keys.complete_in(session, first, "print", {})
        keys.release(first)
        stored = keys.claim(Claim("s", "k", "job-2"))
        assert stored is not None
        stored.check("print")
        with pytest.raises(KeyReusedError):
            stored.check("another")
        forgetful = IdempotencyKeys(database, keep=timedelta(0))
        assert forgetful.claim(Claim("s", "k", "job-2")) is None
