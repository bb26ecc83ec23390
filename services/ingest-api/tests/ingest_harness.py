"""Runs the service as a process, looks behind it, and plays every kind of client."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import redis
from botocore.config import Config
from sqlalchemy import select

from headrace_common.contracts import JobEvent, JobKind, JobStatus, Lane
from headrace_common.db import Database, IdempotencyKey, Job
from headrace_common.jobs import Change, EventPublisher, Failure, JobQueries, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_ingest_api.settings import IngestSettings
from headrace_local.ports import reserve_port
from headrace_local.waiting import wait_until

DEADLINE_SECONDS = 60.0
BOUNDARY = b"headrace-test-boundary"


class Backend:
    """The servers behind the service: what it wrote there."""

    def __init__(self, env: dict[str, str], *, api_key: str) -> None:
        self.env = env
        self.api_key = api_key
        lower = {key.lower(): value for key, value in env.items()}
        self.settings = IngestSettings.model_validate(lower)
        self.database = Database(self.settings)
        self.redis: redis.Redis = redis_client(self.settings)
        self.store = JobStore(
            self.database, EventPublisher(self.redis), retention=self.settings.job_retention
        )
        self.bucket = self.settings.s3_bucket
        secret = self.settings.aws_secret_access_key
        assert secret is not None
        credentials: dict[str, Any] = {
            "region_name": self.settings.aws_region,
            "aws_access_key_id": self.settings.aws_access_key_id,
            "aws_secret_access_key": secret.get_secret_value(),
        }
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=self.settings.s3_endpoint_url,
            config=Config(s3={"addressing_style": "path"}),
            **credentials,
        )
        self.sqs: Any = boto3.client(
            "sqs", endpoint_url=self.settings.sqs_endpoint_url, **credentials
        )

    def close(self) -> None:
        self.database.close()
        self.redis.close()
        self.s3.close()
        self.sqs.close()

    def job(self, job_id: str) -> Job:
        with self.database.begin() as session:
            return JobQueries(session).get(job_id)

    def jobs_of(self, token: str) -> list[Job]:
        with self.database.begin() as session:
            query = select(Job).where(Job.token_id == token).order_by(Job.created_at)
            return list(session.scalars(query))

    def timeline(self, job_id: str) -> list[JobEvent]:
        with self.database.begin() as session:
            return JobQueries(session).events_after(job_id, 0)

    def idempotency_row(self, key: str) -> IdempotencyKey | None:
        with self.database.begin() as session:
            return session.scalar(select(IdempotencyKey).where(IdempotencyKey.key == key))

    def message(self, lane: Lane, message_id: str) -> bytes | None:
        """Return the message as it waits on the lane's queue."""
        name = f"{self.settings.dramatiq_namespace}:{lane.queue_name}"
        waiting: Any = self.redis.lrange(name, 0, -1)
        if message_id.encode() not in waiting:
            return None
        found: Any = self.redis.hget(f"{name}.msgs", message_id)
        return bytes(found)

    def object(self, url: str) -> bytes | None:
        """Return a stored object."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        try:
            body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return body

    def open_uploads(self, key_part: str = "") -> list[str]:
        """Return the keys of multipart uploads that were neither completed nor aborted."""
        found = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [upload["Key"] for upload in found if key_part in upload["Key"]]

    def keeps_nothing_of(self, job: Job) -> bool:
        url = str(job.input["s3_audio_url"])
        return self.object(url) is None and not self.open_uploads(job.id)


class IngestApi:
    """One process of the service."""

    def __init__(self, backend: Backend, log: Path, **changes: str) -> None:
        self.port = reserve_port()
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        env = {**kept, **backend.env, **changes, "HOST": "127.0.0.1", "PORT": str(self.port)}
        self._log = log
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = backend.api_key
        self.client = httpx.Client(
            base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {self.key}"}
        )
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace_ingest_api"],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_alive(self) -> None:
        self._wait("/health/live")

    def wait_ready(self) -> None:
        self._wait("/health/ready")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(timeout=60)

    def upload(self, token: str, content: bytes, **options: Any) -> httpx.Response:
        """Upload as most clients do."""
        name = options.pop("filename", "recording.wav")
        return self.client.post(
            f"/tokens/{token}/upload-audio", files={"file": (name, content)}, **options
        )

    def metric(self, name: str, **labels: str) -> float:
        wanted = name + (
            "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else ""
        )
        for line in self.client.get("/metrics").text.splitlines():
            if line.rpartition(" ")[0] == wanted:
                return float(line.rpartition(" ")[2])
        return 0.0

    def _wait(self, path: str) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log[-3_000:]
            try:
                return self.client.get(path).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, seconds=240)


def form(
    content: bytes,
    *,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
    whole: bool = True,
) -> bytes:
    """Return a multipart body, with fields before and after the file; not `whole`: cut."""

    def field(name: str, value: str) -> bytes:
        head = f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        return b"--" + BOUNDARY + b"\r\n" + head.encode()

    parts = [field(*item) for item in (before or {}).items()]
    parts.append(
        b"--" + BOUNDARY + b"\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + content
    )
    if not whole:
        return b"".join(parts)
    parts.append(b"\r\n")
    parts += [field(*item) for item in (after or {}).items()]
    return b"".join([*parts, b"--" + BOUNDARY + b"--\r\n"])


FORM_HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}


class RawUpload:
    """A client on a bare socket, which sends when the test says so."""

    def __init__(
        self,
        api: IngestApi,
        token: str,
        *,
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._socket = socket.create_connection(("127.0.0.1", api.port), timeout=DEADLINE_SECONDS)
        self._chunked = length is None
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = [
            f"POST /tokens/{token}/upload-audio HTTP/1.1",
            "Host: test",
            f"Authorization: Bearer {api.key}",
            f"Content-Type: {FORM_HEADERS['Content-Type']}",
            framing,
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._socket.sendall(data)

    def finish(self) -> None:
        if self._chunked:
            self._socket.sendall(b"0\r\n\r\n")

    def answer(self) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Return status, JSON body and headers."""
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        self.close()
        return response.status, httpx.Response(200, content=body).json(), headers

    def has_answer(self) -> bool:
        self._socket.settimeout(0.05)
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(DEADLINE_SECONDS)

    def close(self) -> None:
        self._socket.close()


class Gate:
    """Stands between the service and a real server; shut, that server is away."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[socket.socket] = []
        self._open = True
        self.last_words: bytes | None = None
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{parts.port}", f":{port}")
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def shut(self) -> None:
        """Refuse and cut every connection."""
        self._open = False
        for one in self._pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def shut_at_commit_of(self, words: bytes) -> None:
        """Shut once a connection that said `words` commits: the server does, nobody hears of it."""
        self.last_words = words

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self.shut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)
        for one in self._pairs:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                inside.close()
                continue
            outside = socket.create_connection(self._target)
            self._pairs += [inside, outside]
            threading.Thread(target=_pump, args=(outside, inside), daemon=True).start()
            watch = _CommitWatch(self)
            threading.Thread(target=_pump, args=(inside, outside, watch), daemon=True).start()


class _CommitWatch:
    """Listens to one connection's client."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._said = False

    def is_last(self, data: bytes) -> bool:
        words = self._gate.last_words
        self._said = self._said or (words is not None and words in data)
        return self._said and b"COMMIT" in data

    def shut(self) -> None:
        self._gate.shut()


def _pump(source: socket.socket, sink: socket.socket, watch: _CommitWatch | None = None) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            last = watch is not None and watch.is_last(data)
            if last:
                source.shutdown(socket.SHUT_RDWR)  # first: the server may answer at once
            sink.sendall(data)
            if last and watch is not None:
                watch.shut()
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


GOLDEN = Path(__file__).parent / "golden"


def golden(name: str, **filled: str) -> Any:
    """Return a golden answer, with its `<placeholders>` filled in."""
    text = (GOLDEN / f"{name}.json").read_text()
    for placeholder, value in filled.items():
        text = text.replace(f"<{placeholder.replace('_', ' ')}>", value)
    return json.loads(text)


StartApi = Callable[..., IngestApi]

_WAY = {
    JobStatus.QUEUED: (JobStatus.QUEUING, JobStatus.QUEUED),
    JobStatus.PROCESSING: (JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING),
    JobStatus.FAILED: (JobStatus.FAILED,),
    JobStatus.QUEUED_FOR_ANALYSIS: (JobStatus.QUEUING, JobStatus.QUEUED_FOR_ANALYSIS),
    JobStatus.COMPLETED: (JobStatus.QUEUING, JobStatus.COMPLETED),
    JobStatus.CANCELLED: (JobStatus.CANCELLED,),
    JobStatus.UPLOADING: (),
    JobStatus.SCHEDULED: (JobStatus.SCHEDULED,),
    JobStatus.QUEUING: (JobStatus.QUEUING,),
}


def make_job(store: JobStore, lane: Lane, status: JobStatus) -> str:
    job_id = str(uuid.uuid4())
    store.create(NewJob(id=job_id, kind=JobKind.AUDIO_ANALYSIS, lane=lane, message="test"))
    failure = Failure("test", "test")
    for step in _WAY[status]:
        failed = failure if step is JobStatus.FAILED else None
        store.apply([Change(job_id=job_id, to=step, message="test", failure=failed)])
    return job_id
