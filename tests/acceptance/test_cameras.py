"""The camera path from a stream entry to five artefacts, on everything real."""

import hashlib
import json
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import httpx
import numpy as np
import psycopg
import pytest
from camera_yard import PREPROCESSOR, STREAM, Reports, Yard
from typer.testing import CliRunner

from headrace.main import app
from headrace_common.contracts.cctv import ArtifactName, Stage
from headrace_common.contracts.schedules import PURGE_JOBS
from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="session")
def yard(camera_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(camera_stack, tmp_path_factory.mktemp("clip"))
    yield made
    made.close()


def finished(yard: Yard, job_id: str, *, seconds: float = 120) -> dict[str, Any]:
    wait_until(lambda: yard.is_final(job_id), seconds=seconds)
    job = yard.job(job_id)
    assert job is not None
    return job


def assert_whole_once(yard: Yard, job_id: str) -> dict[str, Any]:
    """Check that a job has exactly one set of five in Swift, as its process_meta.json says."""
    names = wait_until(lambda: yard.objects(job_id), lambda seen: len(seen) == 5)
    folder = names[0].rpartition("/")[0]
    assert sorted(names) == sorted(f"{folder}/{name}" for name in ArtifactName)
    assert re.fullmatch(rf"preprocess/[^/]+/{job_id}/\d{{8}}T\d{{6}}\.\d{{3}}Z", folder)
    meta = yard.document(f"{folder}/process_meta.json")
    for name, record in meta["artifacts"].items():
        _, body = yard.swift.get_object(yard.container, f"{folder}/{name}")
        assert hashlib.sha256(body).hexdigest() == record["sha256"], name
    assert meta["job_id"] == job_id
    return meta


def test_an_entry_of_the_producer_ends_as_five_artefacts(yard: Yard) -> None:
    job_id = yard.add(yard.vod, cctv_id="L010146")
    job = finished(yard, job_id)
    assert job["status"] == "completed", job
    assert (job["kind"], job["progress"]) == ("cctv_preprocess", 100)

    meta = assert_whole_once(yard, job_id)
    assert meta["cctv_id"] == "L010146"
    assert meta["signature"]["algorithm"] == "Ed25519"
    assert job["result"]["folder"] == meta["folder"]

    statuses = [event["status"] for event in yard.timeline(job_id)]
    order = ["queued", "processing", "completed"]
    assert list(dict.fromkeys(statuses)) == order
    wait_until(yard.pending, lambda seen: seen == 0)

    listed = yard.user.results.get(f"/jobs/{job_id}/artifacts").json()["artifacts"]
    assert [each["name"] for each in listed] == [*ArtifactName]
    for each in listed:
        # The link is the credential: no key is sent.
        body = httpx.get(each["url"], timeout=60).content
        assert hashlib.sha256(body).hexdigest() == each["sha256"]
        if each["name"].endswith(".jpg"):
            picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            assert picture.shape[1] == 640
        else:
            json.loads(body)
    assert "valid" in yard.user.run("verify", job_id).lower()


def test_a_job_goes_with_its_artefacts_once_its_retention_is_over(yard: Yard) -> None:
    kept, due = (yard.add(yard.vod) for _ in range(2))
    for job_id in (kept, due):
        assert finished(yard, job_id)["status"] == "completed"
        wait_until(partial(yard.objects, job_id), lambda seen: len(seen) == 5)
    with psycopg.connect(yard.env["DATABASE_URL"]) as connection:
        connection.execute("UPDATE jobs SET retain_until = now() WHERE id = %s", [due])
    dispatcher = yard.stack.state.endpoints["dispatcher_url"]

    def is_gone() -> bool:
        url, headers = f"{dispatcher}/schedules/{PURGE_JOBS.name}/run", yard.user.results.headers
        fired = httpx.post(url, headers=headers, timeout=60)
        assert fired.is_success, fired.text
        return yard.user.results.get(f"/jobs/{due}").status_code == 404

    # Once to tell the gpu-preprocessors, once more when these have removed everything.
    wait_until(is_gone)
    wait_until(lambda: yard.objects(due), lambda seen: seen == [])
    assert len(yard.objects(kept)) == 5
    assert yard.user.job(kept)["status"] == "completed"


def test_a_registered_camera_is_looked_at_by_its_name(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(yard.stack.directory))
    name, corner = f"북부 1?{uuid4().hex[:8]}", [[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1], [0.0, 0.1]]]
    region = tmp_path / "region.json"
    region.write_text(json.dumps(corner))

    def run(*words: str, expect: int = 0) -> str:
        done = CliRunner().invoke(app, words)
        # What is no usage error is printed by `main`, as one line.
        assert done.exit_code == 0 or expect, done.output
        assert getattr(done.exception, "code", done.exit_code) == expect, done.output
        return f"{done.output}{done.exception or ''}"

    wide = [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]]
    (tmp_path / "wide.json").write_text(json.dumps(wide))
    url = f"{yard.vod}?token=s3cret"
    run("cameras", "add", name, url, "--region", str(tmp_path / "wide.json"), "--seconds", "3")
    assert "already" in run("cameras", "add", name, url, expect=4)
    run("cameras", "change", name, "--region", str(region), "--description", "A1")
    assert "what is to change" in run("cameras", "change", name, expect=2)
    shown = json.loads(run("cameras", "show", name, "--json"))
    assert (shown["region"], shown["seconds"], shown["description"]) == (corner, 3, "A1")
    assert name in (listed := run("cameras", "list"))
    assert "s3cret" not in listed + json.dumps(shown) + run("cameras", "show", name)

    job_id = json.loads(run("preprocess", "--camera", name, "--json"))["job_id"]
    job = finished(yard, job_id)
    assert (job["status"], job["input"]["sec"]) == ("completed", 3)
    assert job["input"]["road_region"] == corner
    meta = assert_whole_once(yard, job_id)
    assert meta["cctv_id"] == name
    assert yard.document(f"{meta['folder']}background_meta.json")["region"] == corner

    run("cameras", "remove", name)
    assert name in run("preprocess", "--camera", name, expect=3)
    assert "either --camera" in run("preprocess", "--camera", name, "--cctv", name, expect=2)


def test_a_job_without_an_id_gets_the_same_one_everywhere(yard: Yard) -> None:
    fields = {"cctvId": "no-id", "hls": yard.vod, "sec": "2", "attempt": "0", "enqueuedAt": "1700"}
    yard.redis.xadd(STREAM, fields)
    yard.redis.xadd(STREAM, fields)
    listed = wait_until(
        lambda: [
            job
            for job in yard.user.results.get("/jobs", params={"kind": "cctv_preprocess"}).json()[
                "jobs"
            ]
            if job["input"].get("cctv_id") == "no-id"
        ]
    )
    assert len(listed) == 1
    finished(yard, listed[0]["job_id"])
    wait_until(yard.pending, lambda seen: seen == 0)
    assert_whole_once(yard, listed[0]["job_id"])


def test_what_cannot_succeed_fails_at_once_and_says_why(yard: Yard) -> None:
    job_id = yard.add("http://169.254.169.254/latest/meta-data/live.m3u8")
    job = finished(yard, job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "address_refused")
    letters = yard.redis.xrange(f"{STREAM}:dlq")
    letter = next(fields for _, fields in letters if fields.get("jobId") == job_id)
    assert letter["code"] == "address_refused"
    assert letter["hls"].startswith("http://169.254.169.254/")
    assert yard.objects(job_id) == []


def test_what_may_succeed_later_is_tried_again(yard: Yard) -> None:
    """The stream is not there at first; it comes up before the attempts are used up."""
    prefix = f"/late{yard.redis.incr('test:late')}"
    job_id = yard.add(f"{yard.server.url}{prefix}/index.m3u8")
    wait_until(
        lambda: [e for e in yard.timeline(job_id) if e["data"].get("code") == "stream_not_found"]
    )
    yard.server.add_vod(prefix, yard.playlist)
    job = finished(yard, job_id, seconds=180)
    assert job["status"] == "completed"
    assert job["metadata"]["attempt"] >= 1
    assert_whole_once(yard, job_id)


def test_a_cancelled_job_stops_and_can_be_done_anew(yard: Yard) -> None:
    reports = Reports(yard)
    job_id = yard.add(yard.live, sec=10)  # workers look every two
    reports.wait_for(job_id, Stage.READING)
    assert yard.user.ingest.delete(f"/jobs/{job_id}/cancel").status_code == 200
    wait_until(lambda: yard.slot_of(job_id) is None)
    wait_until(yard.pending, lambda seen: seen == 0)
    assert yard.objects(job_id) == []
    again = yard.user.ingest.post(f"/jobs/{job_id}/retry")
    assert (again.status_code, again.json()["run"]) == (200, 2)
    job = finished(yard, job_id)
    assert (job["status"], job["run"]) == ("completed", 2)
    assert job["result"]["folder"].endswith("Z-run2/")
    wait_until(lambda: yard.objects(job_id), lambda seen: len(seen) == 5)


@pytest.mark.parametrize(
    "stage", [Stage.READING, Stage.BACKGROUND, Stage.DETECTING, Stage.UPLOADING]
)
def test_a_kill_at_any_stage_loses_and_doubles_nothing(yard: Yard, stage: Stage) -> None:
    reports = Reports(yard)
    job_id = yard.add(yard.live if stage is Stage.READING else yard.vod)
    reports.wait_for(job_id, stage)
    yard.stack.kill(PREPROCESSOR)
    yard.stack.wait_ready(PREPROCESSOR)
    job = finished(yard, job_id, seconds=180)
    assert job["status"] == "completed"
    assert_whole_once(yard, job_id)
    wait_until(yard.pending, lambda seen: seen == 0)
    finals = [e for e in yard.timeline(job_id) if e["type"] == "status" and e["progress"] == 100]
    assert len(finals) == 1


def test_a_kill_between_the_last_artefact_and_the_acknowledgement(yard: Yard) -> None:
    """Redis is frozen, so that nothing can be acknowledged, until the set is whole in Swift."""
    reports = Reports(yard)
    job_id = yard.add(yard.vod)
    reports.wait_for(job_id, Stage.READING)
    yard.stack.kill("valkey", signal.SIGSTOP)
    try:
        wait_until(
            lambda: [n for n in yard.objects(job_id) if n.endswith("/process_meta.json")],
            seconds=60,
        )
        yard.stack.kill(PREPROCESSOR)
    finally:
        yard.stack.kill("valkey", signal.SIGCONT)
    yard.stack.wait_ready(PREPROCESSOR)
    meta = assert_whole_once(yard, job_id)
    job = finished(yard, job_id, seconds=180)
    assert job["status"] == "completed"
    assert assert_whole_once(yard, job_id) == meta
    wait_until(yard.pending, lambda seen: seen == 0)


def test_concurrency_and_pause_while_jobs_run(yard: Yard) -> None:
    # Each lasts for longer than it takes to see them all at work.
    first = [yard.add(yard.live, sec=8) for _ in range(4)]
    wait_until(lambda: yard.status()["busy"] == 2)
    assert yard.worker.post("/control/concurrency", params={"n": 4}).json() == {
        "concurrency": 4,
        "before": 2,
    }
    wait_until(lambda: yard.status()["busy"] == 4)
    assert yard.worker.post("/control/pause").json() == {"paused": True}
    second = [yard.add(yard.vod) for _ in range(2)]
    for job_id in first:
        assert finished(yard, job_id)["status"] == "completed"
    status = wait_until(yard.status, lambda seen: seen["busy"] == 0)
    assert status["status"] == "paused"
    waiting = [yard.job(job_id) for job_id in second]
    assert all(job is None or job["status"] == "queued" for job in waiting)
    yard.worker.post("/control/resume")
    yard.worker.post("/control/concurrency", params={"n": 2})
    for job_id in first + second:
        assert finished(yard, job_id)["status"] == "completed"
        assert_whole_once(yard, job_id)


def test_writes_need_a_key(yard: Yard) -> None:
    url = yard.stack.state.endpoints["preprocessor_url"]
    refused = httpx.post(f"{url}/control/concurrency", params={"n": 1}, timeout=30)
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert httpx.get(f"{url}/worker/status", timeout=30).status_code == 401
    wrong = yard.worker.post("/control/concurrency", params={"n": 0})
    assert wrong.status_code == 422


def test_metrics_as_the_old_worker_had_them(yard: Yard) -> None:
    answer = yard.worker.get("/metrics", headers={"accept": "application/json"}).json()
    assert set(answer) == {"counters", "uptime_seconds", "start_time"}
    assert set(answer["counters"]) == {
        *("processed", "failed", "retried", "dlq", "pending", "concurrency_current")
    }
    text = yard.worker.get("/metrics").text
    assert "headrace_preprocessor_stage_duration_seconds_bucket" in text


def test_jobs_wait_while_swift_is_away(yard: Yard) -> None:
    yard.stack.stop("swift")
    try:
        jobs = [yard.add(yard.vod) for _ in range(3)]
        status = wait_until(yard.status, lambda seen: seen["waiting_for"] is not None, seconds=180)
        assert status["status"] == "holding"
        assert status["waiting_for"]["code"] == "swift_unavailable"
        # Somebody who looks at the job is told why it waits.
        wait_until(
            lambda: [
                event
                for job_id in jobs
                for event in yard.timeline(job_id)
                if "swift_unavailable" in (event["message"] or "")
            ]
        )
    finally:
        yard.stack.start("swift")
    for job_id in jobs:
        job = finished(yard, job_id, seconds=120)
        assert (job["status"], job["metadata"]["attempt"]) == ("completed", 0)
        assert_whole_once(yard, job_id)
    assert not {letter.get("jobId") for _, letter in yard.redis.xrange(f"{STREAM}:dlq")} & {*jobs}
    wait_until(yard.status, lambda seen: seen["waiting_for"] is None)


def test_what_was_changed_in_swift_is_found(yard: Yard) -> None:
    """By job: a changed byte, an object gone, and the set of another job in its place."""
    jobs = [yard.add(yard.vod, sec=2), yard.add(yard.vod, sec=2)]
    first, second = (finished(yard, job_id)["result"]["artifacts"] for job_id in jobs)
    assert yard.user.run_json("verify", jobs[0])["ok"]
    at = first[ArtifactName.DAMAGE_RESULT]["object"]
    _, right = yard.swift.get_object(yard.container, at)
    yard.swift.put_object(yard.container, at, bytes([right[0] ^ 1]) + right[1:])
    assert "WRONG damage_result.jpg" in yard.user.run("verify", jobs[0], expect=1)
    yard.swift.delete_object(yard.container, at)
    assert "WRONG damage_result.jpg" in yard.user.run("verify", jobs[0], expect=1)
    for name in ArtifactName:
        _, other = yard.swift.get_object(yard.container, second[name]["object"])
        yard.swift.put_object(yard.container, first[name]["object"], other)
    report = yard.user.run_json("verify", jobs[0], expect=1)
    faults = [fault["code"] for each in report["artifacts"] for fault in each["faults"]]
    assert faults == ["other_job"]
    yard.user.run("verify", "no-such-job", expect=3)
