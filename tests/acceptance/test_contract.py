"""The old back end's endpoints to the letter: A1, A7, A8, A11, as its clients call them."""

import json
import signal
from uuid import uuid4

import httpx
import pytest
from stack_user import User

from headrace_local.waiting import wait_until


def test_an_upload_answers_what_clients_read(user: User) -> None:
    answer = user.upload(user.token(), priority="high")
    assert set(answer) >= {
        *("message", "job_id", "queue_message_id", "rq_job_id"),
        *("status", "priority", "queue_position"),
    }
    assert answer["rq_job_id"] == answer["queue_message_id"]
    assert (answer["status"], answer["priority"]) == ("queued", "high")


def test_the_priority_is_normal_unless_told(user: User) -> None:
    assert user.upload(user.token())["priority"] == "normal"


def test_an_unknown_token_is_404(user: User) -> None:
    answer = user.ingest.post("/tokens/nobody/upload-audio", files={"file": ("a.wav", b"RIFF")})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_lanes_are_counted(user: User) -> None:
    answer = user.ingest.get("/queue/status").json()
    assert set(answer) == {"high_priority", "audio_analysis", "low_priority"}
    for lane in answer.values():
        assert set(lane) == {"length", "failed_count", "started_count"}


def test_the_sqs_queue_is_counted_in_strings(user: User) -> None:
    answer = user.ingest.get("/tokens/queue/status").json()
    assert set(answer) == {"status", "queue_info", "sqs_enabled"}
    assert (answer["status"], answer["sqs_enabled"]) == ("success", True)
    info = answer["queue_info"]
    assert set(info) == {"messages_available", "messages_in_flight", "queue_url"}
    assert info["messages_available"].isdigit()
    assert info["messages_in_flight"].isdigit()
    assert info["queue_url"].endswith("/audio-analysis-queue")


def test_cancelling(user: User) -> None:
    assert user.ingest.delete(f"/jobs/{uuid4()}/cancel").status_code == 404
    user.stack.kill("dispatcher", number=signal.SIGSTOP)
    try:
        job_id = user.upload(user.token(), priority="low")["job_id"]
        answer = user.ingest.delete(f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        again = user.ingest.delete(f"/jobs/{job_id}/cancel")
        assert (again.status_code, again.json()["code"]) == (400, "job_finished")
    finally:
        user.stack.kill("dispatcher", number=signal.SIGCONT)
    assert user.job(job_id)["status"] == "cancelled"


def test_a_stream_that_is_cut_goes_on_where_it_was(user: User) -> None:
    job_id = user.upload(user.token())["job_id"]
    seen: list[int] = []
    last_id = ""
    for _ in range(60):
        headers = {"last-event-id": last_id} if last_id else {}
        with user.results.stream("GET", f"/jobs/{job_id}/events", headers=headers) as stream:
            if stream.status_code == httpx.codes.NO_CONTENT:
                break
            assert stream.headers["content-type"].startswith("text/event-stream")
            for line in stream.iter_lines():
                if line.startswith("id: "):
                    last_id = line.removeprefix("id: ")
                    seen.append(int(last_id))
                    break  # cut after every event
    timeline = user.results.get(f"/jobs/{job_id}/timeline").json()["events"]
    assert seen == [event["sequence"] for event in timeline] == list(range(1, len(seen) + 1))
    assert user.job(job_id)["status"] == "completed"


@pytest.mark.parametrize("last_id", ["x", "-1", "1.5"])
def test_a_bad_last_event_id_is_400(user: User, last_id: str) -> None:
    job_id = user.upload(user.token())["job_id"]
    answer = user.results.get(f"/jobs/{job_id}/events", headers={"last-event-id": last_id})
    assert answer.status_code == 400


def test_jobs_are_listed_in_pages(user: User) -> None:
    token = user.token()
    ids = [user.upload(token)["job_id"] for _ in range(3)]
    first = user.results.get("/jobs", params={"token_id": token, "limit": 2}).json()
    second = user.results.get(
        "/jobs", params={"token_id": token, "limit": 2, "cursor": first["next_cursor"]}
    ).json()
    listed = [job["job_id"] for page in (first, second) for job in page["jobs"]]
    assert listed == ids[::-1]
    assert second["next_cursor"] is None


def test_an_unsigned_webhook_is_401(user: User) -> None:
    job_id = user.upload(user.token())["job_id"]
    url = f"{user.state.env['WEBHOOK_URL']}?job_id={job_id}"
    answer = httpx.post(url, content=json.dumps({"status": "completed"}), timeout=30)
    assert answer.status_code == 401
    job = wait_until(
        lambda: user.job(job_id), lambda job: job["status"] == "completed", seconds=120
    )
    assert job["result"]["schema_version"] == 1
