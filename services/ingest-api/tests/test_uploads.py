import hashlib
import json
import re
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from ingest_audio import KINDS, large_wav, recording, speex, video_without_sound, wav_head
from ingest_harness import FORM_HEADERS, Backend, IngestApi, RawUpload, form, golden

from headrace_common.contracts import JobStatus, Lane
from headrace_common.keys import Scope, create
from headrace_local.waiting import wait_until

MIB = 1024 * 1024
MARY = Path(__file__).parents[3] / "examples/recordings/mary.wav"

pytestmark = pytest.mark.stack


def test_an_upload_answers_to_the_letter_and_leaves_a_queued_job(
    api: IngestApi, backend: Backend, token: str
) -> None:
    waiting = api.client.get("/queue/status").json()["high_priority"]["length"]
    answer = api.upload(token, MARY.read_bytes(), params={"priority": "high"})
    assert answer.status_code == 200
    body = answer.json()
    expected = golden("upload", job_id=body["job_id"], message_id=body["rq_job_id"], token_id=token)
    assert body == {**expected, "queue_position": waiting + 1}
    assert list(body) == list(expected)
    assert UUID(body["job_id"]).version == 7
    job = backend.job(body["job_id"])
    assert (job.status, job.progress, job.lane) == ("queued", 50, "high")
    assert (job.kind, job.token_id) == ("audio_analysis", token)
    assert job.queue_message_id == body["queue_message_id"]
    assert job.created_by == api.key.split("_")[1]


def test_the_timeline_shows_every_step_as_clients_know_it(
    api: IngestApi, backend: Backend, token: str
) -> None:
    job_id = api.upload(token, recording("wav")).json()["job_id"]
    steps = [(event.status, event.progress) for event in backend.timeline(job_id)]
    assert steps == [
        (JobStatus.UPLOADING, 10),
        (JobStatus.UPLOADING, 30),
        (JobStatus.QUEUING, 40),
        (JobStatus.QUEUED, 50),
    ]
    assert all(event.message for event in backend.timeline(job_id))


def test_the_jobs_input_has_what_an_analysis_needs(
    api: IngestApi, backend: Backend, token: str
) -> None:
    textgrid, pitch = "s3://headrace-media/a.TextGrid", "s3://headrace-media/a.json"
    urls = {"s3_textgrid_url": textgrid, "s3_pitch_url": pitch}
    api.client.patch(f"/tokens/{token}", json=urls).raise_for_status()
    content, began = MARY.read_bytes(), datetime.now(UTC)
    job = backend.job(api.upload(token, content, filename="C:\\a\\mary.wav").json()["job_id"])
    # A later change of the token does not change what this job is compared with.
    api.client.patch(f"/tokens/{token}", json=dict.fromkeys(urls)).raise_for_status()
    # Midnight may have come by between the recording and its row.
    days = {f"{day:%Y/%m/%d}" for day in (began, job.created_at)}
    url = str(job.input["s3_audio_url"])
    assert url in {f"s3://{backend.bucket}/audio/{day}/{job.id}.wav" for day in days}
    assert backend.job(job.id).input == {
        "s3_audio_url": url,
        **urls,
        "filename": "mary.wav",
        "content_type": "audio/wav",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert job.meta["audio"] == {
        "format": "wav",
        "codec": "pcm_16",
        "duration_seconds": pytest.approx(1.869, abs=0.01),
        "sample_rate_hz": 48_000,
        "channels": 1,
    }
    assert backend.object(url) == content
    key = url.removeprefix(f"s3://{backend.bucket}/")
    assert backend.s3.head_object(Bucket=backend.bucket, Key=key)["ContentType"] == "audio/wav"


@pytest.mark.parametrize("lane", list(Lane))
def test_each_priority_has_its_queue_and_its_actor(
    api: IngestApi, backend: Backend, token: str, lane: Lane
) -> None:
    body = api.upload(token, recording("wav"), data={"priority": lane.value}).json()
    assert body["priority"] == lane
    sent = backend.message(lane, body["queue_message_id"])
    assert sent is not None
    message = json.loads(sent)
    assert message["queue_name"] == lane.queue_name
    assert message["actor_name"] == f"job.dispatch.{lane}"
    assert message["kwargs"] == {"job_id": body["job_id"]}
    traced = backend.job(body["job_id"]).trace["traceparent"]
    assert message["options"]["trace"]["traceparent"].split("-")[1] == traced.split("-")[1]


def test_the_place_in_the_lane_counts_those_ahead(api: IngestApi, token: str) -> None:
    places = [
        api.upload(token, recording("wav"), params={"priority": "low"}).json()["queue_position"]
        for _ in range(3)
    ]
    assert places == [places[0], places[0] + 1, places[0] + 2]


@pytest.mark.parametrize("where", ["before", "after"])
def test_the_priority_may_stand_before_or_after_the_file(
    api: IngestApi, backend: Backend, token: str, where: str
) -> None:
    fields = {"priority": "low"}
    content = recording("wav")
    body = form(content, before=fields) if where == "before" else form(content, after=fields)
    answer = api.client.post(
        f"/tokens/{token}/upload-audio", content=body, headers=FORM_HEADERS
    ).json()
    assert answer["priority"] == "low"
    assert backend.job(answer["job_id"]).lane == "low"
    assert backend.message(Lane.LOW, answer["queue_message_id"])


def test_the_default_priority_is_normal(api: IngestApi, token: str) -> None:
    assert api.upload(token, recording("wav")).json()["priority"] == "normal"


@pytest.mark.parametrize("size", [MIB, 11 * MIB])
def test_an_invalid_priority_is_422_and_nothing_stays(
    api: IngestApi, backend: Backend, token: str, size: int
) -> None:
    content = large_wav(size)
    path = f"/tokens/{token}/upload-audio"
    assert api.upload(token, content, params={"priority": "urgent"}).status_code == 422
    early = form(content, before={"priority": "urgent"})
    assert api.client.post(path, content=early, headers=FORM_HEADERS).status_code == 422
    assert backend.jobs_of(token) == []
    late = api.client.post(
        path, content=form(content, after={"priority": "urgent"}), headers=FORM_HEADERS
    )
    assert (late.status_code, late.json()["code"]) == (422, "invalid_priority")
    [job] = backend.jobs_of(token)
    assert (job.status, job.error_code) == ("failed", "invalid_priority")
    assert backend.keeps_nothing_of(job)


@pytest.mark.parametrize("name", [*KINDS, "ogg-speex"])
def test_every_kind_of_recording_is_taken(
    api: IngestApi, backend: Backend, token: str, name: str
) -> None:
    content = speex() if name == "ogg-speex" else recording(name)
    # The name and the Content-Type that a client sends say nothing.
    answer = api.upload(token, content, filename="what.txt")
    assert answer.status_code == 200, answer.text
    job = backend.job(answer.json()["job_id"])
    container = "ogg" if name == "ogg-speex" else KINDS[name].container
    assert job.meta["audio"]["format"] == container
    assert str(job.input["s3_audio_url"]).endswith(f".{container}")
    assert backend.object(str(job.input["s3_audio_url"])) == content


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7 " * 100, b"\xff\xd8\xff\xe0\0\x10JFIF", b"hello", b"\0" * 10_000]
)
def test_other_content_is_415_before_there_is_a_job(
    api: IngestApi, backend: Backend, token: str, content: bytes
) -> None:
    answer = api.upload(token, content)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_audio")
    assert answer.headers["content-type"] == "application/problem+json"
    assert backend.jobs_of(token) == []


def test_a_body_that_is_no_form_is_415_and_a_broken_form_400(api: IngestApi, token: str) -> None:
    path = f"/tokens/{token}/upload-audio"
    assert api.client.post(path, json={"file": "x"}).status_code == 415
    assert api.client.post(path, content=b"").status_code == 415
    cut = form(recording("wav"))[:-10]
    assert api.client.post(path, content=cut, headers=FORM_HEADERS).status_code == 400


def test_a_form_without_file_and_an_empty_file_are_422(
    api: IngestApi, backend: Backend, token: str
) -> None:
    path = f"/tokens/{token}/upload-audio"
    missing = form(b"x").replace(b'name="file"', b'name="data"')
    answer = api.client.post(path, content=missing, headers=FORM_HEADERS)
    assert (answer.status_code, answer.json()["code"]) == (422, "missing_file")
    answer = api.upload(token, b"")
    assert (answer.status_code, answer.json()["code"]) == (422, "empty_file")
    assert backend.jobs_of(token) == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (recording("flac")[:30], "broken_audio"),
        (b"RIFF\x24\0\0\0WAVEjunk", "broken_audio"),
        (wav_head(0), "no_audio"),
        (video_without_sound("mp4"), "no_audio"),
        (video_without_sound("webm"), "no_audio"),
        (b"\xff\xfb\x90\x00" + bytes(range(256)) * 100, "broken_audio"),
        # So large that it is in S3 before its end is known.
        (b"\xff\xfb\x90\x00" + large_wav(11 * MIB), "broken_audio"),
    ],
)
def test_a_recording_without_sound_is_422_and_not_kept(
    api: IngestApi, backend: Backend, token: str, content: bytes, code: str
) -> None:
    answer = api.upload(token, content)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    [job] = backend.jobs_of(token)
    assert (job.status, job.error_code) == ("failed", code)
    assert job.error_message
    assert answer.json()["detail"] in job.error_message
    assert backend.keeps_nothing_of(job)


def test_a_file_of_several_parts_arrives_as_it_was_sent(
    api: IngestApi, backend: Backend, token: str
) -> None:
    content = large_wav(23 * MIB + 4_711)
    job = backend.job(api.upload(token, content).json()["job_id"])
    assert job.input["sha256"] == hashlib.sha256(content).hexdigest()
    url = str(job.input["s3_audio_url"])
    stored = backend.object(url)
    assert stored is not None
    assert hashlib.sha256(stored).hexdigest() == job.input["sha256"]
    assert backend.open_uploads(job.id) == []
    assert job.meta["audio"]["duration_seconds"] == pytest.approx(
        (len(content) - 44) / 96_000, 0.01
    )


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_file_around_the_size_of_a_part_arrives(
    api: IngestApi, backend: Backend, token: str, extra: int
) -> None:
    content = large_wav(5 * MIB + extra)
    job = backend.job(api.upload(token, content).json()["job_id"])
    assert backend.object(str(job.input["s3_audio_url"])) == content


def test_unknown_token_is_404(api: IngestApi) -> None:
    for token_id in ("nobody", "%00", "x" * 300, "%2e%2e"):
        answer = api.upload(token_id, recording("wav"))
        assert answer.status_code == 404, token_id
        assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_key_it_is_401_and_without_the_scope_403(
    api: IngestApi, backend: Backend, token: str
) -> None:
    with backend.database.begin() as session:
        reader = create(session, name="reader", scopes=[Scope.JOBS_READ]).secret_text
    for key, status in ((None, 401), ("hr_000000000000_wrong", 401), (reader, 403)):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.post(
            f"{api.url}/tokens/{token}/upload-audio",
            files={"file": ("a.wav", large_wav(11 * MIB))},
            headers=headers,
            timeout=60,
        )
        assert answer.status_code == status
        assert ("www-authenticate" in answer.headers) == (status == 401)
    assert backend.jobs_of(token) == []


def test_the_form_is_read_however_small_its_pieces_are(api: IngestApi, token: str) -> None:
    body = form(recording("mp3"), after={"priority": "low"})
    upload = RawUpload(api, token)
    for start in range(0, len(body), 97):
        upload.send(body[start : start + 97])
    upload.finish()
    status, answer, _ = upload.answer()
    assert (status, answer["priority"]) == (200, "low")


def test_many_at_once(api: IngestApi, backend: Backend, token: str) -> None:
    content = recording("flac")
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                httpx.post(
                    f"{api.url}/tokens/{token}/upload-audio",
                    files={"file": ("a.flac", content)},
                    headers={"Authorization": f"Bearer {api.key}"},
                    timeout=60,
                ).status_code
            )
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 20
    assert {job.status for job in backend.jobs_of(token)} == {"queued"}


def test_uploads_are_counted_by_outcome(api: IngestApi, token: str) -> None:
    accepted = api.metric("headrace_uploads_total", outcome="accepted")
    refused = api.metric("headrace_uploads_total", outcome="unsupported_audio")
    received = api.metric("headrace_upload_bytes_total")
    content = recording("wav")
    api.upload(token, content)
    api.upload(token, b"hello")

    def counted() -> list[float]:
        outcomes = ("accepted", "unsupported_audio")
        uploads = [api.metric("headrace_uploads_total", outcome=each) for each in outcomes]
        return [*uploads, api.metric("headrace_upload_bytes_total")]

    # An upload may be counted a moment after its answer.
    wait_until(counted, lambda seen: seen == [accepted + 1, refused + 1, received + len(content)])
    wait_until(lambda: api.metric("headrace_uploads_in_flight") == 0)


def test_openapi_documents_the_upload(api: IngestApi) -> None:
    document = api.client.get("/openapi.json").json()
    route = document["paths"]["/tokens/{token_id}/upload-audio"]["post"]
    form_schema = route["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form_schema["properties"]) == {"file", "priority", "run_at", "delay"}
    assert {"200", "400", "401", "403", "404", "408", "409", "413", "415", "422", "503"} <= set(
        route["responses"]
    )
    assert {item["name"].lower() for item in route["parameters"]} == {
        "token_id",
        "priority",
        "run_at",
        "delay",
        "idempotency-key",
    }
    assert re.search(r"hr_", document["components"]["securitySchemes"]["ApiKey"]["description"])
