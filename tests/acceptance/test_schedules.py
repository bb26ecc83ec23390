"""Schedules from their making to the results of what they began, on everything real."""

from collections.abc import Iterator

import pytest
from planner import Planner
from stack_user import User

from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack


@pytest.fixture
def planner(user: User) -> Iterator[Planner]:
    someone = Planner(user.stack)
    yield someone
    someone.close()


def test_a_recording_is_analysed_anew_again_and_again(user: User, planner: Planner) -> None:
    job_id = user.upload(user.token())["job_id"]
    wait_until(lambda: user.job(job_id)["status"], lambda status: status == "completed")

    name = planner.add("audio.reanalyse", job_id=job_id)
    succeeded = planner.ended(name, "succeeded", at_least=2)
    # By default no firing begins while what the last one began goes on.
    assert [firing["job_run"] for firing in succeeded[:2]] == [2, 3]
    assert {firing["job_id"] for firing in succeeded} == {job_id}
    assert {firing["state"] for firing in planner.firings(name)} <= {
        *("succeeded", "skipped", "pending", "sent", "running")
    }
    planner.remove(name)

    job = user.job(job_id)
    assert job["metadata"]["schedule"] == name
    assert succeeded[0]["id"] <= job["metadata"]["firing_id"]
    events = user.results.get(f"/jobs/{job_id}/timeline").json()["events"]
    restarts = [event["message"] for event in events if event["type"] == "restarted"]
    assert restarts[0] == f"Analysed anew by schedule '{name}': run 2"
    assert len(restarts) == job["run"] - 1


def test_a_firing_that_cannot_begin_its_job_says_why(user: User, planner: Planner) -> None:
    camera = {"name": "gone-soon", "hls": "http://127.0.0.1:9/live.m3u8", "seconds": 2}
    assert user.ingest.post("/cameras", json=camera).status_code == 201
    name = planner.add("camera.preprocess", seconds=3600, camera="gone-soon")
    assert user.ingest.delete("/cameras/gone-soon").status_code == 204
    planner.run_now(name)
    failed = planner.ended(name, "failed")[0]
    assert failed["reason"] == "no camera 'gone-soon' is registered"
    planner.remove(name)
