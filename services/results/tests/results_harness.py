"""Runs the service as a process, and stands for everybody who talks to it."""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from headrace_common import webhooks
from headrace_common.contracts import JobEvent, JobKind, JobStatus, Lane
from headrace_common.db import Database, InboxReport
from headrace_common.jobs import Change, EventPublisher, JobQueries, JobStore, JobView, NewJob
from headrace_common.redis_client import redis_client
from headrace_local.ports import reserve_port
from headrace_local.waiting import wait_until
from headrace_results.settings import ResultsSettings

PATH = "/webhooks/analysis"
DEADLINE_SECONDS = 60.0
#: Nothing here speaks TLS, and what httpx reads for it takes 30 ms of a core at each call.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def settings_of(env: dict[str, str]) -> ResultsSettings:
    return ResultsSettings.model_validate({key.lower(): value for key, value in env.items()})


class Replica:
    """One process of the service."""

    def __init__(self, env: dict[str, str], log: Path, **changes: str) -> None:
        self.port = reserve_port()
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._env = {**kept, **env, **changes, "HOST": "127.0.0.1", "PORT": str(self.port)}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "headrace_results"],
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log[-3_000:]
            try:
                url = f"{self.url}/health/ready"
                return httpx.get(url, timeout=5, verify=_NO_TLS).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, seconds=240)

    def stop(self) -> float:
        """Stop it as Kubernetes does, and return the seconds that it took."""
        started = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=60)
            finally:
                self._process.kill()
                self._process.wait()
        return time.monotonic() - started

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=30, verify=_NO_TLS).text
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(lines[0].split()[1])


@contextmanager
def running(env: dict[str, str], log: Path, **changes: str) -> Iterator[Replica]:
    """Run a replica with settings of its own."""
    replica = Replica(env, log, **changes)
    replica.start()
    try:
        replica.wait_ready()
        yield replica
    finally:
        replica.stop()


class Bench:
    """The other services, the analysis server and the client in one."""

    def __init__(self, env: dict[str, str], *, api_key: str) -> None:
        self.settings = settings_of(env)
        self.authorization = {"Authorization": f"Bearer {api_key}"}
        self.database = Database(self.settings)
        self._redis = redis_client(self.settings)
        self.redis = self._redis
        self.store = JobStore(
            self.database, EventPublisher(self._redis), retention=timedelta(days=30)
        )

    def close(self) -> None:
        self._redis.close()
        self.database.close()

    def job(
        self,
        status: JobStatus = JobStatus.QUEUED_FOR_ANALYSIS,
        *,
        lane: Lane = Lane.NORMAL,
        **new: Any,
    ) -> str:
        """Make a job as ingest and dispatcher do, and bring it to `status`."""
        job_id = f"job-{uuid.uuid4()}"
        self.store.create(
            NewJob(
                id=job_id, kind=JobKind.AUDIO_ANALYSIS, lane=lane, message="Upload started", **new
            )
        )
        path = (
            JobStatus.QUEUING,
            JobStatus.QUEUED,
            JobStatus.PROCESSING,
            JobStatus.QUEUED_FOR_ANALYSIS,
        )
        for step in path[: path.index(status) + 1] if status in path else ():
            self.change(job_id, step)
        return job_id

    def change(self, job_id: str, to: JobStatus, **more: Any) -> None:
        self.store.apply([Change(job_id=job_id, to=to, message=more.pop("message", to), **more)])

    def progress(self, job_id: str, percent: int) -> None:
        self.change(job_id, JobStatus.QUEUED_FOR_ANALYSIS, progress=percent, message=f"{percent}")

    def view(self, job_id: str) -> JobView:
        with self.database.begin() as session:
            return JobView.of(JobQueries(session).get(job_id))

    def events(self, job_id: str) -> list[JobEvent]:
        with self.database.begin() as session:
            return JobQueries(session).events_after(job_id, 0, limit=10_000)

    def inbox(self, job_id: str) -> list[InboxReport]:
        with self.database.begin() as session:
            return list(
                session.scalars(
                    select(InboxReport).where(InboxReport.job_id == job_id).order_by(InboxReport.id)
                )
            )

    def outcomes(self, job_id: str) -> list[str]:
        """Wait until every report on a job is applied, and return what that did."""

        def applied() -> list[InboxReport] | None:
            rows = self.inbox(job_id)
            return rows if rows and all(row.applied_at for row in rows) else None

        return [row.outcome or "" for row in wait_until(applied)]

    def token(self, job_id: str, *, secret: int = 0) -> str:
        return webhooks.callback_token(
            job_id, secret=self.settings.callback_token_secret_texts()[secret]
        )

    def signed(
        self,
        body: bytes,
        *,
        webhook_id: str | None = None,
        secrets: list[str] | None = None,
        age: timedelta = timedelta(),
    ) -> dict[str, str]:
        return webhooks.sign(
            body,
            secrets=secrets or self.settings.webhook_secret_texts()[:1],
            message_id=webhook_id or f"msg_{uuid.uuid4().hex}",
            now=datetime.now(UTC) - age,
        )

    def report(
        self,
        replica: Replica,
        job_id: str,
        report: dict[str, Any],
        *,
        webhook_id: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a signed report."""
        body = json.dumps(report).encode()
        return httpx.post(
            f"{replica.url}{PATH}",
            params={"job_id": job_id},
            content=body,
            headers={**self.signed(body, webhook_id=webhook_id), **(headers or {})},
            timeout=30,
            verify=_NO_TLS,
        )

    def get(self, replica: Replica, path: str, **options: Any) -> httpx.Response:
        url, headers = f"{replica.url}{path}", self.authorization
        return httpx.get(url, headers=headers, timeout=30, verify=_NO_TLS, **options)


@dataclass(frozen=True)
class Sse:
    """One Server-Sent Event."""

    event: str | None
    id: str | None
    data: dict[str, Any] | None
    retry: int | None = None


def parse_sse(lines: Iterator[str]) -> Iterator[Sse]:
    """Read events off the wire, comments left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Sse(
                event=fields.get("event"),
                id=fields.get("id"),
                data=json.loads(fields["data"]) if "data" in fields else None,
                retry=int(fields["retry"]) if "retry" in fields else None,
            )
            fields = {}


@contextmanager
def streaming(
    bench: Bench, replica: Replica, job_id: str, *, last: str | None = None
) -> Iterator[Iterator[Sse]]:
    """Open a stream of events."""
    headers = {**bench.authorization, **({"Last-Event-ID": last} if last is not None else {})}
    url = f"{replica.url}/jobs/{job_id}/events"
    with httpx.stream(
        "GET", url, headers=headers, timeout=DEADLINE_SECONDS, verify=_NO_TLS
    ) as response:
        assert response.status_code == 200, response.read()
        yield parse_sse(response.iter_lines())


class Collector:
    """Reads a stream to its end in a thread."""

    def __init__(
        self, bench: Bench, replica: Replica, job_id: str, *, last: str | None = None
    ) -> None:
        self.seen: list[Sse] = []
        self.failure: Exception | None = None
        self._thread = threading.Thread(
            target=self._read, args=(bench, replica, job_id, last), daemon=True
        )
        self._thread.start()

    def _read(self, bench: Bench, replica: Replica, job_id: str, last: str | None) -> None:
        try:
            with streaming(bench, replica, job_id, last=last) as events:
                for event in events:
                    self.seen.append(event)
        except Exception as error:  # noqa: BLE001 - shown by `end`
            self.failure = error

    @property
    def ids(self) -> list[int]:
        return [int(event.id) for event in self.seen if event.id is not None]

    def named(self, name: str) -> list[Sse]:
        return [event for event in self.seen if event.event == name]

    def wait_for(self, sequence: int) -> None:
        """Wait until the event `sequence` is the last that came."""
        wait_until(lambda: self.ids[-1:] == [sequence])

    def end(self, *, seconds: float = DEADLINE_SECONDS) -> "Collector":
        """Wait until the server has ended the stream."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"still open after {seconds} s: {self.seen}"
        assert self.failure is None, self.failure
        return self
