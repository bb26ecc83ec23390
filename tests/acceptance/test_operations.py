"""Jobs are cancelled while they are analysed, and begun anew, on the whole stack (O2)."""

import os
import signal
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from stack_user import User

from headrace_common import webhooks
from headrace_common.settings import SqsSettings
from headrace_common.sqs import lane_queue_urls, sqs_client
from headrace_local.waiting import wait_until

#: The stack's ANALYSIS_HEARTBEAT_SECONDS, and what a busy machine takes besides; less than the
#: minutes after which a message is visible again, or a job out of time.
HEARTBEAT_SECONDS = 2
ENDS_WITHIN_SECONDS = HEARTBEAT_SECONDS + 30
#: Statuses of jobs that an analysis server works on now, or may any moment.
UNDER_WAY = ("queuing", "queued", "processing", "queued_for_analysis")


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of a voice-like buzz: Praat works on it for many seconds."""
    path, rate = tmp_path_factory.mktemp("long") / "long.wav", 16_000
    time_axis = np.arange(400 * rate) / rate
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * 0.7 * time_axis)) / rate
    buzz = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 12))
    samples = (buzz / np.abs(buzz).max() * 20_000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


class AnalysisProcess:
    """The child process of the analysis server that works now, told by the CPU time it takes."""

    def __init__(self, user: User) -> None:
        self._parent = next(
            r.pid for r in user.stack.state.processes if r.name == "analysis-server"
        )
        self._before: dict[str, float] = {}

    def find(self) -> int | None:
        """Return the id of a child that took half a second since it was first seen."""
        for entry in Path("/proc").iterdir():
            stat = _stat(entry) if entry.name.isdecimal() else []
            if not stat or int(stat[1]) != self._parent:
                continue
            seconds = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
            if seconds - self._before.setdefault(entry.name, seconds) > 0.5:
                return int(entry.name)
        return None


def _stat(entry: Path) -> list[str]:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Sqs:
    """The queues of the stack: what is left in them, and in their dead letters."""

    def __init__(self, user: User) -> None:
        env = {name.lower(): value for name, value in user.state.env.items()}
        settings = SqsSettings.model_validate(env)
        self._client = sqs_client(settings)
        self._urls = sorted(set(lane_queue_urls(settings).values()))

    def left(self) -> int:
        return sum(map(self._count, self._urls))

    def dead(self) -> int:
        return sum(self._count(f"{url}-dlq") for url in self._urls)

    def close(self) -> None:
        self._client.close()

    def _count(self, url: str) -> int:
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(value) for value in answer["Attributes"].values())


def jobs_under_way(user: User) -> list[str]:
    query = {"kind": "audio_analysis", "status": UNDER_WAY}
    found = user.results.get("/jobs", params=query).json()["jobs"]
    return [job["job_id"] for job in found]


@pytest.fixture
def sqs(user: User) -> Iterator[Sqs]:
    queues = Sqs(user)
    yield queues
    queues.close()


def test_a_job_that_is_cancelled_while_analysed_ends_within_a_heartbeat(
    user: User, sqs: Sqs, long_recording: Path
) -> None:
    dead = sqs.dead()
    # What other tests left is not to be taken for this job's analysis.
    wait_until(lambda: jobs_under_way(user) == [], seconds=120)
    analysing = AnalysisProcess(user)
    # Not by the command line: its end takes long enough for the analysis to come to its own.
    job_id = user.upload(user.token(), long_recording)["job_id"]
    child = wait_until(analysing.find, seconds=120)
    os.kill(child, signal.SIGSTOP)  # so that it does not end by itself
    assert user.job(job_id)["status"] == "queued_for_analysis"

    user.run("cancel", job_id)
    cancelled = time.monotonic()
    wait_until(lambda: not Path(f"/proc/{child}").exists())
    assert time.monotonic() - cancelled < ENDS_WITHIN_SECONDS
    wait_until(lambda: sqs.left() == 0)

    assert sqs.dead() == dead
    assert user.job(job_id)["status"] == "cancelled"
    events = user.results.get(f"/jobs/{job_id}/timeline").json()["events"]
    assert events[-1]["status"] == "cancelled"


def report(user: User, job_id: str, said: dict[str, Any], *, run: int) -> dict[str, Any]:
    """Report on a job as the analysis server that was asked in `run`."""
    secret = user.state.env["CALLBACK_TOKEN_SECRETS"].split()[0]
    token = webhooks.callback_token(job_id, secret=secret)
    url = webhooks.callback_url(user.state.env["WEBHOOK_URL"], job_id, token=token, run=run)
    answer = httpx.post(url, json=said, timeout=30)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_failed_job_completes_in_its_second_run(user: User) -> None:
    user.run("pause", "low_priority", "--reason", "for a test")
    try:
        assert "for a test" in user.run("queues")
        job_id = user.upload(user.token(), priority="low")["job_id"]
        report(user, job_id, {"status": "failed", "error": "the disk is full"}, run=1)
        failed = wait_until(lambda: user.job(job_id), lambda job: job["status"] == "failed")
        assert failed["error"]["message"] == "the disk is full"
        found = user.run_json("bulk", "retry", "--id", job_id, "--dry-run")
        assert [job["job_id"] for job in found["sample"]] == [job_id]
        user.run("retry", job_id)
        assert user.job(job_id)["status"] == "queued"
    finally:
        user.run("resume", "low_priority")
    user.run("watch", job_id)
    done = user.job(job_id)
    assert (done["status"], done["run"], done["error"]) == ("completed", 2, None)

    late = {"status": "completed", "result": {"late": True}}
    assert report(user, job_id, late, run=1)["stop"] is True
    ignored = wait_until(
        lambda: [
            each["payload"]
            for each in user.results.get(f"/jobs/{job_id}/reports").json()["reports"]
            if each["outcome"] == "ignored: of run 1, the job is in run 2"
        ]
    )
    assert ignored == [late]
    assert user.job(job_id)["result"] == done["result"]
