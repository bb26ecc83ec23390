"""The dispatcher's process: health, state behind a key, graceful stop."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from dispatcher_scene import Queues, Scene, running
from pydantic import SecretStr
from sqlalchemy import select

from headrace_common import keys
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Job
from headrace_common.keys import Scope
from headrace_dispatcher.settings import DispatcherSettings
from headrace_local.ports import reserve_port
from headrace_local.waiting import wait_until


def environment(settings: DispatcherSettings, port: int) -> dict[str, str]:
    """Return the environment that makes these settings."""

    def text(value: object) -> str:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        return " ".join(map(text, value)) if isinstance(value, tuple) else str(value)

    values = settings.model_dump(exclude_none=True) | {"port": port}
    return {name.upper(): text(value) for name, value in values.items()}


@contextmanager
def process(settings: DispatcherSettings) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    url, child = _started(settings)
    try:
        yield url, child
    finally:
        if child.poll() is None:
            child.terminate()
            assert child.wait(timeout=60) == 0


def _started(settings: DispatcherSettings) -> tuple[str, "subprocess.Popen[bytes]"]:
    port = reserve_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "headrace_dispatcher"],
        env={"PATH": os.environ["PATH"], **environment(settings, port)},
    )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert child.poll() is None, "the dispatcher does not start"
        return _status(f"{url}/health/ready") == 200

    wait_until(is_ready)
    return url, child


def ask(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=60)


def _status(url: str) -> int | None:
    try:
        return ask(url).status_code
    except httpx.TransportError:
        return None


@pytest.fixture
def api_key(scene: Scene) -> str:
    with scene.database.begin() as session:
        return keys.create(session, name="test", scopes=[Scope.JOBS_READ]).secret_text


def test_health_and_metrics_are_open_and_state_needs_a_key(scene: Scene, api_key: str) -> None:
    scene.job(Lane.HIGH, enqueue=False)
    with process(scene.settings) as (url, _):
        assert ask(f"{url}/health/live").json() == {"status": "ok", "service": "dispatcher"}
        checks = ask(f"{url}/health").json()["checks"]
        assert {"worker", "bridge", "gate", "due_jobs", "chores"} <= set(checks)
        assert {"database", "redis"} <= set(checks)
        assert (checks["sqs"]["ok"], checks["sqs"]["required"]) == (True, False)
        assert {"scheduler", "scheduler_loop", "scheduler_figures"} <= set(checks)
        assert (checks["scheduler"]["ok"], checks["scheduler"]["required"]) == (True, False)
        assert checks["scheduler"]["detail"].startswith(("leads in epoch 1", "stands by"))
        assert "headrace_dispatches_total" in ask(f"{url}/metrics").text
        refused = ask(f"{url}/state")
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["content-type"] == "application/problem+json"
        state = ask(f"{url}/state", authorization=f"Bearer {api_key}").json()
    assert state["default_transport"] == "sqs"
    assert state["transports_in_use"] == ["sqs"]
    assert [circuit["dependency"] for circuit in state["circuits"]] == [
        "sqs",
        "analysis_server",
        "postgres",
    ]
    assert state["waiting"] == {}
    assert state["lanes"]["high"] == {
        "queue": "high_priority",
        "paused": False,
        "messages": 0,
        "waiting": 1,
        "started": 0,
    }


@pytest.mark.parametrize("role", ["lanes", "scheduler"])
def test_a_process_does_what_its_roles_say(scene_with: Callable[..., Scene], role: str) -> None:
    scene = scene_with(dispatcher_roles=role)
    job_id = scene.job()
    with running(scene):
        dispatcher = scene.dispatcher
        if role == "scheduler":
            wait_until(lambda: dispatcher.scheduler.epoch)
            assert dispatcher.worker_checks() == []
            assert scene.load(job_id).status == "queued"
        else:
            wait_until(lambda: scene.load(job_id).status == "queued_for_analysis")
            assert dispatcher.scheduler.check() == "never leads"
        for check in [*dispatcher.worker_checks(), *dispatcher.scheduler.checks()]:
            check.probe()


def test_a_process_that_is_killed_loses_nothing(
    scene_with: Callable[..., Scene], queues: Queues
) -> None:
    scene = scene_with(dispatcher_threads=2, dramatiq_heartbeat_timeout_seconds=2)
    ids = [scene.job(enqueue=False) for _ in range(60)]

    def sent() -> int:
        return sum(scene.load(job_id).status == "queued_for_analysis" for job_id in ids)

    with process(scene.settings) as (_, child), scene.database.begin() as session:
        # It cannot be done with all of them before it dies: the last ones are not to be had.
        session.execute(select(Job.id).where(Job.id.in_(ids[-2:])).with_for_update())
        for job_id in ids:
            scene.enqueue(job_id, Lane.NORMAL, scene.load(job_id).queue_message_id)
        wait_until(sent)
        child.kill()
        child.wait(timeout=60)
    assert sent() < 60
    with process(scene.settings):
        wait_until(sent, lambda count: count == 60, seconds=120)
    bodies: list[str] = []
    while found := queues.receive(Lane.NORMAL):
        bodies += [json.loads(message["Body"])["job_id"] for message in found]
    assert set(bodies) == set(ids)


def test_a_job_that_kills_its_dispatcher_ends(
    scene_with: Callable[..., Scene],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/analyze"
        scene = scene_with(
            use_sqs_queue=False,
            analysis_server_url=url,
            job_max_deliveries=1,
            dramatiq_heartbeat_timeout_seconds=1,
        )
        job_id = scene.job()
        with process(scene.settings) as (_, child):
            # Once it has connected, it has the job in hand.
            connection, _ = server.accept()
            child.kill()
            connection.close()
            child.wait(timeout=60)
    assert (scene.load(job_id).status, scene.load(job_id).deliveries) == ("processing", 1)
    with process(scene.settings):
        job = wait_until(
            lambda: scene.load(job_id), lambda job: job.status == "failed", seconds=120
        )
    assert job.error_code == "poison_message"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("USE_SQS_QUEUE", "false", "set USE_SQS_QUEUE=true, or ANALYSIS_SERVER_URL"),
        ("DISPATCHER_THREADS", "0", "DISPATCHER_THREADS"),
        ("CALLBACK_TOKEN_SECRETS", "short", "at least 32 characters"),
    ],
)
def test_impossible_settings_stop_the_process_with_a_reason(
    scene: Scene, name: str, value: str, complaint: str
) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "headrace_dispatcher"],
        env={"PATH": os.environ["PATH"], **environment(scene.settings, 0), name: value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 1
    assert complaint in child.stderr
    assert "Traceback" not in child.stderr
