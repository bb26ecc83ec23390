"""Schedules from their making to the results of what they began, on everything real."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

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
    planner.ended(name, "succeeded", at_least=2)
    user.stack.kill("dispatcher")
    user.stack.wait_ready("dispatcher")
    planner.ended(name, "succeeded", at_least=4)
    planner.pause(name)
    firings = wait_until(
        lambda: planner.firings(name), lambda seen: all(each["finished_at"] for each in seen)
    )
    planner.remove(name)

    # By default no firing begins while what the last one began goes on.
    assert {firing["state"] for firing in firings} <= {"succeeded", "skipped"}
    begun = [firing for firing in firings if firing["state"] == "succeeded"]
    assert [firing["job_run"] for firing in begun] == list(range(2, len(begun) + 2))
    assert {firing["job_id"] for firing in begun} == {job_id}
    times = [datetime.fromisoformat(firing["fire_at"]) for firing in firings]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(seconds=1)}

    job = user.job(job_id)
    assert (job["status"], job["run"]) == ("completed", len(begun) + 1)
    assert job["metadata"]["schedule"] == name
    assert job["metadata"]["firing_id"] == begun[-1]["id"]
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
