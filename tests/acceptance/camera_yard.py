"""A yard with cameras for tests: the stream of jobs, what Swift has, and what the worker says."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import redis
import swiftclient
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from stack_user import User

from headrace_common.contracts.cctv import REPORT_FIELD, CctvReport, Stage
from headrace_gpu_preprocessor.simulate import HlsServer, Scene, write_hls
from headrace_local.pytest_plugin import LocalStack
from headrace_local.tools import ensure_debian_redis

PREPROCESSOR = "gpu-preprocessor"
STREAM = "stream:preprocess"


class Yard:
    """Everything around the camera path that a test looks at."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self.stack = stack
        self.user = User(stack)
        self.env = dict(stack.state.env)
        self.redis: Any = redis.Redis.from_url(
            self.env["REDIS_URL"], password=self.env["REDIS_PASSWORD"], decode_responses=True
        )
        account = v3.Password(
            auth_url=self.env["OS_AUTH_URL"],
            username=self.env["OS_USERNAME"],
            password=self.env["OS_PASSWORD"],
            project_name=self.env["OS_PROJECT_NAME"],
            user_domain_name=self.env["OS_USER_DOMAIN_NAME"],
            project_domain_name=self.env["OS_PROJECT_DOMAIN_NAME"],
        )
        self.swift = swiftclient.Connection(session=Session(auth=account, timeout=60), timeout=60)
        self.container = self.env["SWIFT_CONTAINER"]
        self.worker = httpx.Client(
            base_url=stack.state.endpoints["preprocessor_url"],
            headers={"authorization": f"Bearer {stack.state.api_key}"},
            timeout=60,
        )
        self.server = HlsServer()
        self.server.__enter__()
        scene = Scene("light", 640, 360, seconds=6, rate=10)
        self.playlist = write_hls(scene.frames(), scene.rate, folder)
        self.vod = self.server.add_vod("/vod", self.playlist)
        self.live = self.server.add_live("/live", self.playlist)

    def close(self) -> None:
        self.server.__exit__()
        self.worker.close()
        self.user.close()
        self.redis.close()
        self.swift.close()

    def add(self, hls: str, *, sec: int = 3, cctv_id: str | None = None, attempt: int = 0) -> str:
        """Put an entry on the stream with redis-cli, as the producer does; return the job's id."""
        job_id = str(uuid4())
        self.redis_cli(
            *("XADD", STREAM, "*", "cctvId", cctv_id or f"cam-{job_id[:8]}", "hls", hls),
            *("sec", str(sec), "attempt", str(attempt)),
            *("enqueuedAt", str(time.time_ns() // 1_000_000), "jobId", job_id),
        )
        return job_id

    def redis_cli(self, *words: str) -> str:
        found = ensure_debian_redis()
        program = (found if found.is_dir() else found.parent) / "redis-cli"
        port = self.env["REDIS_URL"].rpartition(":")[2].partition("/")[0]
        done = subprocess.run(
            [program, "-p", port, *words],
            env={"REDISCLI_AUTH": self.env["REDIS_PASSWORD"]},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()

    def objects(self, job_id: str) -> list[str]:
        """Return the names of everything that a job has in Swift."""
        _, found = self.swift.get_container(self.container, full_listing=True)
        return [each["name"] for each in found if f"/{job_id}/" in each["name"]]

    def document(self, name: str) -> dict[str, Any]:
        _, body = self.swift.get_object(self.container, name)
        data: dict[str, Any] = json.loads(body)
        return data

    def pending(self) -> int:
        return int(self.redis.xpending(STREAM, "workers")["pending"])

    def status(self) -> dict[str, Any]:
        answer = self.worker.get("/worker/status")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        return data

    def job(self, job_id: str) -> dict[str, Any] | None:
        """Return a job, None while results has not heard of it."""
        answer = self.user.results.get(f"/jobs/{job_id}")
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        return data

    def is_final(self, job_id: str) -> bool:
        job = self.job(job_id)
        return job is not None and job["status"] in {"completed", "failed", "cancelled"}

    def timeline(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's events; none while results has not heard of it."""
        answer = self.user.results.get(f"/jobs/{job_id}/timeline")
        if answer.status_code == 404:
            return []
        assert answer.status_code == 200, answer.text
        events: list[dict[str, Any]] = answer.json()["events"]
        return events

    def slot_of(self, job_id: str) -> dict[str, Any] | None:
        slots = self.status()["slots"]
        return next((slot for slot in slots if slot["job_id"] == job_id), None)


class Reports:
    """The worker's reports from now on: a blocked reader gets each, however soon it is trimmed."""

    def __init__(self, yard: Yard) -> None:
        self._redis = yard.redis
        self._stream = f"{STREAM}:reports"
        last = self._redis.xrevrange(self._stream, count=1)
        info = self._redis.xinfo_stream(self._stream) if self._redis.exists(self._stream) else {}
        self._after = info.get("last-generated-id") or (last[0][0] if last else "0-0")

    def wait_for(self, job_id: str, stage: Stage, *, seconds: float = 60) -> None:
        """Return as soon as a job is said to be in a stage."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self._redis.xread({self._stream: self._after}, block=1_000) or []
            for _, entries in found.items() if isinstance(found, dict) else found:
                for entry_id, fields in _flat(entries):
                    self._after = entry_id
                    report = CctvReport.model_validate_json(fields[REPORT_FIELD])
                    if report.job_id == job_id and report.stage is stage:
                        return
        raise AssertionError(f"{job_id} never came to {stage}")


def _flat(entries: Any) -> list[tuple[str, dict[str, str]]]:
    """RESP3 nests the entries of a stream once more than RESP2."""
    return [pair for each in entries for pair in (each if isinstance(each, list) else [each])]
