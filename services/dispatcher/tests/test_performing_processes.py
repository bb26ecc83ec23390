"""Who performs firings: processes that are killed on the way, dispatchers whose lanes rest."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dispatcher_scene import Scene, running
from firing_bench import FiringBench

from headrace_common import queue_controls
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.schedules import PREPROCESS, REANALYSE
from headrace_common.settings import DatabaseSettings
from headrace_dispatcher.dead.from_dramatiq import DramatiqLetters
from headrace_dispatcher.dead.letter import NewLetter
from headrace_dispatcher.scheduling.performing import job_id_of
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack


@pytest.fixture
def lanes(scene_with: Callable[..., Scene]) -> tuple[Scene, FiringBench]:
    """A dispatcher, and firings for it."""
    scene = scene_with(lost_after_seconds=0.001)
    return scene, FiringBench(scene.database, scene.settings, stream=scene.settings.redis_stream)


@pytest.mark.parametrize("where", ["before_commit", "after_commit"])
def test_a_process_that_is_killed_on_the_way_loses_and_doubles_nothing(
    firing_bench: FiringBench,
    fresh_database: DatabaseSettings,
    redis_values: dict[str, Any],
    where: str,
) -> None:
    bench = firing_bench
    firing_id = bench.fire(PREPROCESS, camera=bench.camera())
    bench.send(PREPROCESS, firing_id)
    told = {
        "redis": redis_values,
        "database": {"database_url": fresh_database.database_url.get_secret_value()},
        "stream": bench.stream,
    }
    script = Path(__file__).with_name("dying_performer.py")
    killed = subprocess.run([sys.executable, script, where, json.dumps(told)], check=False)
    assert killed.returncode == -signal.SIGKILL
    state = {"before_commit": "sent", "after_commit": "running"}[where]
    assert bench.firing(firing_id).state == state
    assert (bench.entries(), bench.held()) == ([], 1)

    worker = bench.performing.make_worker(bench.broker)
    worker.start()
    wait_until(lambda: bench.held() == 0)
    worker.stop(grace_seconds=5)

    firing = bench.firing(firing_id)
    assert (firing.state, firing.job_id) == ("running", job_id_of(firing))
    status = {"before_commit": "queued", "after_commit": "queuing"}[where]
    assert bench.load(firing.job_id).status == status, "`queuing` is put on the stream by a sweep"


def test_the_sweep_finds_a_run_whose_message_was_never_sent(
    lanes: tuple[Scene, FiringBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, bench = lanes
    job_id = bench.job()
    with monkeypatch.context() as patch:
        # As a process that is killed after the commit.
        patch.setattr(bench.performing, "_tell", lambda _begun: None)
        firing = bench.reanalyse(bench.schedule(), job_id)
    assert (firing.state, bench.lane_messages(Lane.LOW)) == ("running", 0)
    assert scene.dispatcher.sweep.round() == 1
    assert bench.lane_messages(Lane.LOW) == 1
    assert bench.load(job_id).run == firing.job_run


def test_firings_are_performed_while_every_lane_rests(
    lanes: tuple[Scene, FiringBench],
) -> None:
    scene, bench = lanes
    with scene.database.begin() as session:
        for lane in Lane:
            queue_controls.set_paused(session, lane.queue_name, paused=True, actor="test")
    for circuit in scene.dispatcher.circuits.outside():
        circuit.failed("for a test", retry_after=60)
    job_id = bench.job()
    firing_id = bench.fire(REANALYSE, job_id=job_id)
    bench.send(REANALYSE, firing_id)
    with running(scene):
        wait_until(lambda: bench.firing(firing_id).state, lambda state: state == "running")
        assert bench.load(job_id).status == "queued"
        # Sent after the commit, and nobody takes it.
        wait_until(lambda: bench.lane_messages(Lane.LOW) == 1)


def test_a_message_that_makes_no_sense_is_a_dead_letter(firing_bench: FiringBench) -> None:
    bench = firing_bench
    bench.send_raw(REANALYSE, {"job_id": "job-1"})
    worker = bench.performing.make_worker(bench.broker)
    worker.start()
    wait_until(lambda: bench.held() == 0)
    worker.stop(grace_seconds=5)
    letters: list[NewLetter] = []

    def keep(found: Sequence[NewLetter]) -> int:
        letters.extend(found)
        return len(found)

    DramatiqLetters(bench.broker.client, keep, namespace=bench.broker.namespace).collect()
    [letter] = letters
    assert (letter.queue, letter.code) == (REANALYSE.queue, "ValidationError")
