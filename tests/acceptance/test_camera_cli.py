"""The command line of the camera path."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from planner import Planner
from stack_user import User

from headrace_gpu_preprocessor.simulate import HlsServer, Scene, write_hls
from headrace_local.pytest_plugin import LocalStack

pytestmark = pytest.mark.stack


@pytest.fixture
def user(camera_stack: LocalStack) -> Iterator[User]:
    someone = User(camera_stack)
    yield someone
    someone.close()


def test_a_simulated_camera_is_looked_at(user: User) -> None:
    simulate = ("cameras", "simulate", "--size", "320x180", "--seconds", "5", "--sec", "3")
    printed = user.run(*simulate, "--preprocess", "--json")
    lines = [json.loads(line) for line in printed.splitlines()]
    assert lines[0]["cameras"][0]["url"] == lines[0]["url"]
    assert (lines[-2]["event"], lines[-2]["status"]) == ("status", "completed")
    assert lines[-1]["event"] == "result"
    assert len([each for each in lines[-1]["artifacts"] if each["url"]]) == 5
    shown = user.run("job", lines[-1]["job_id"])
    assert "process_meta.json" in shown
    assert "of the road" in shown


def test_the_worker_is_steered(user: User) -> None:
    before = user.run_json("worker", "status")["concurrency"]
    assert user.run_json("worker", "concurrency", "3") == {"concurrency": 3, "before": before}
    user.run("worker", "pause")
    shown = user.run_json("worker", "status")
    assert (shown["concurrency"], shown["paused"]) == (3, True)
    assert user.run_json("worker", "resume") == {"paused": False}
    user.run("worker", "concurrency", str(before))
    assert "422" in user.run("worker", "concurrency", "1000", expect=4)
    assert "stream:preprocess" in user.run("worker", "status")


def test_a_camera_job_waits_is_listed_and_cancelled(user: User) -> None:
    user.run("worker", "pause")
    try:
        key = str(uuid4())
        ask = ("preprocess", "--cctv", key, "--hls", "http://127.0.0.1:9/x.m3u8", "--sec", "2")
        answer = user.run_json(*ask, "--idempotency-key", key)
        assert user.run_json(*ask, "--idempotency-key", key) == answer
        listed = user.run_json("jobs", "--kind", "cctv_preprocess")["jobs"]
        assert [job["input"]["cctv_id"] for job in listed].count(key) == 1
        assert key in user.run("jobs", "--kind", "cctv_preprocess")
        user.run("cancel", answer["job_id"])
        assert "cancelled" in user.run("job", answer["job_id"])
    finally:
        user.run("worker", "resume")


def test_a_registered_camera_is_looked_at_again_and_again(user: User, tmp_path: Path) -> None:
    scene = Scene("light", 320, 180, seconds=4, rate=10)
    playlist = write_hls(scene.frames(), scene.rate, tmp_path)
    road = [[[0.0, 0.4], [1.0, 0.4], [1.0, 1.0], [0.0, 1.0]]]
    planner = Planner(user.stack)
    with HlsServer() as server:
        camera = {
            "name": f"gate-{uuid4().hex[:8]}",
            "hls": server.add_vod("/gate", playlist),
            "seconds": 2,
            "region": road,
        }
        assert user.ingest.post("/cameras", json=camera).status_code == 201
        name = planner.add("camera.preprocess", camera=camera["name"])
        succeeded = planner.ended(name, "succeeded", at_least=2)
        planner.remove(name)
    planner.close()

    assert len({firing["job_id"] for firing in succeeded}) == len(succeeded)
    for firing in succeeded:
        job = user.job(firing["job_id"])
        assert (job["status"], job["input"]["cctv_id"]) == ("completed", camera["name"])
        assert (job["input"]["sec"], job["input"]["road_region"]) == (2, road)
        assert job["metadata"]["schedule"] == name
        assert job["metadata"]["firing_id"] == firing["id"]
        assert len(job["result"]["artifacts"]) == 5


def test_a_camera_that_may_not_be_asked_fails_its_firing(user: User) -> None:
    camera = {"name": f"far-{uuid4().hex[:8]}", "hls": "http://192.0.2.1/live.m3u8", "seconds": 2}
    assert user.ingest.post("/cameras", json=camera).status_code == 201
    planner = Planner(user.stack)
    name = planner.add("camera.preprocess", seconds=3600, camera=camera["name"])
    planner.run_now(name)
    failed = planner.ended(name, "failed")[0]
    assert "is not in the list of allowed hosts" in failed["reason"]
    assert user.job(failed["job_id"])["status"] == "failed"
    planner.remove(name)
    planner.close()
