"""`headrace upload --direct`, killed and resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ingest_audio import large_wav
from ingest_harness import Backend, IngestApi

from headrace_local.waiting import wait_until

MIB = 1024 * 1024
PARTS = 6
SIZE = (PARTS - 1) * 5 * MIB + 4 * MIB

pytestmark = pytest.mark.stack


class PartCounter:
    """A proxy before S3 that counts PUTs, and holds those beyond a limit back."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.puts = 0
        self._most = PARTS * 10
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def let_through(self, most: int) -> None:
        """Hold back what comes after `most` PUTs."""
        self.puts, self._most = 0, most
        self._released.clear()

    def drop(self) -> None:
        """Drop what is held back, and let through what comes."""
        self._most = PARTS * 10
        self._released.set()

    def close(self) -> None:
        self.drop()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            outside = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(inside, outside), daemon=True).start()
            threading.Thread(target=self._pump, args=(outside, inside), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if data.startswith(b"PUT /") and not self._may_pass():
                    self._released.wait(60)
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _may_pass(self) -> bool:
        with self._lock:
            self.puts += 1
            return self.puts <= self._most


@pytest.fixture(scope="module")
def counter(backend: Backend) -> Iterator[PartCounter]:
    assert backend.settings.s3_endpoint_url is not None
    made = PartCounter(backend.settings.s3_endpoint_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def counted_api(
    backend: Backend, counter: PartCounter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IngestApi]:
    """The service, whose clients reach S3 through the counter."""
    started = IngestApi(
        backend,
        tmp_path_factory.mktemp("ingest") / "log",
        DIRECT_UPLOAD_PART_BYTES=str(5 * MIB),
        S3_PUBLIC_ENDPOINT_URL=counter.url,
    )
    try:
        started.wait_ready()
        yield started
    finally:
        started.stop()


class Command:
    """`headrace upload --direct FILE`."""

    def __init__(self, api: IngestApi, token: str, path: Path) -> None:
        with path.open("wb") as file:
            file.write(large_wav(SIZE))
        self.state = path.parent / "state" / "headrace" / "uploads"
        self._words = [
            *(sys.executable, "-m", "headrace", "upload", str(path), "-t", token, "--direct"),
        ]
        self._env = os.environ | {
            "HEADRACE_INGEST_URL": api.url,
            "HEADRACE_RESULTS_URL": api.url,
            "HEADRACE_API_KEY": api.key,
            "XDG_STATE_HOME": str(path.parent / "state"),
        }

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._words, *more],
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever starts us in the background has us ignore it, and our children too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def run(self, *more: str, expect: int = 0) -> tuple[str, str]:
        process = self.start(*more)
        printed, said = process.communicate(timeout=120)
        assert process.returncode == expect, printed + said
        return printed, said

    def job_id(self) -> str | None:
        """Return the job that is remembered."""
        for path in self.state.glob("*.json"):
            job_id: str | None = json.loads(path.read_text())["job_id"]
            return job_id
        return None


def view(api: IngestApi, job_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = api.client.get(f"/direct-uploads/{job_id}").raise_for_status().json()
    return answer


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_was_killed_is_resumed_with_what_is_missing(
    counted_api: IngestApi,
    counter: PartCounter,
    backend: Backend,
    token: str,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    command = Command(counted_api, token, tmp_path / "long.wav")
    there = 2
    counter.let_through(there)
    first = command.start("--parallel", "2")
    wait_until(lambda: counter.puts > there)
    job_id = wait_until(command.job_id)
    wait_until(lambda: len(view(counted_api, job_id)["parts"]) == there)
    first.send_signal(number)
    counter.drop()
    printed, said = first.communicate(timeout=60)
    there = len(view(counted_api, job_id)["parts"])
    assert there < PARTS, printed + said
    assert (number == signal.SIGINT) == ("interrupted; the same command resumes it" in said)
    counter.puts = 0

    printed, said = command.run("--json")

    [answer] = json.loads(printed)
    assert f"resuming, {there} of {PARTS} parts are there" in said
    assert answer["job_id"] == job_id
    assert answer["status"] == "queued"
    figures = {key: answer["direct"][key] for key in ("parts", "sent", "skipped")}
    assert figures == {"parts": PARTS, "sent": PARTS - there, "skipped": there}
    assert counter.puts == PARTS - there
    assert backend.object(backend.job(job_id).input["s3_audio_url"]) == large_wav(SIZE)
    assert command.job_id() is None


def test_abort_gives_up_what_was_begun(
    counted_api: IngestApi, counter: PartCounter, backend: Backend, token: str, tmp_path: Path
) -> None:
    command = Command(counted_api, token, tmp_path / "long.wav")
    assert "no upload of this file" in command.run("--abort", expect=3)[1]
    counter.let_through(1)
    first = command.start()
    wait_until(lambda: counter.puts > 1)
    first.kill()
    first.communicate(timeout=60)
    counter.drop()
    job_id = command.job_id()
    assert job_id is not None
    assert "given up" in command.run("--abort")[0]
    assert backend.job(job_id).status == "cancelled"
    assert backend.keeps_nothing_of(backend.job(job_id))
    assert command.job_id() is None
