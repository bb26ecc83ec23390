"""The service as it is run: what a stop does while requests and jobs are under way."""

import asyncio
import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr
from stream_harness import PASSWORD, Bench

from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.artifacts import SwiftSettings
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.on_demand import OnDemand
from headrace_gpu_preprocessor.on_demand.errors import StoppingError
from headrace_gpu_preprocessor.on_demand.settings import OnDemandSettings
from headrace_gpu_preprocessor.simulate import HlsServer
from headrace_gpu_preprocessor.video import ReadLimits
from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

GRACE_SECONDS = 8
#: What the end of a process may take beside: closing connections, decoders, the interpreter.
#: Less than a second grace.
MARGIN_SECONDS = 7.5


def env_text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class Service:
    """The process, by its environment."""

    def __init__(self, bench: Bench, swift: SwiftSettings, log: Path, **changes: str) -> None:
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        told = {n.upper(): env_text(v) for n, v in swift.model_dump().items() if v is not None}
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **told,
            "PORT": str(self.port),
            "REDIS_URL": bench.url,
            "REDIS_PASSWORD": PASSWORD,
            "REDIS_STREAM": bench.stream,
            "CONSUMER_NAME": "one",
            "HLS_ALLOWED_HOSTS": "127.0.0.1",
            "GPU_MEMORY_GUARD": "false",
            "LEGACY_OPEN_ENDPOINTS": "true",
            "SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
            **changes,
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace_gpu_preprocessor"],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self.status, seconds=240)

    def status(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, self.log.read_text()[-3_000:]
        try:
            answer: dict[str, Any] = httpx.get(f"{self.url}/worker/status", timeout=5).json()
        except httpx.TransportError:
            return None
        return answer

    def open_request(self) -> socket.socket:
        """Send a request whose body does not come to its end."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(
            b"POST /api/v1/damage-detection/video HTTP/1.1\r\nhost: x\r\n"
            b'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"url": '
        )
        return client


@pytest.fixture
def service(bench: Bench, swift_settings: SwiftSettings, tmp_path: Path) -> Iterator[Service]:
    made = Service(bench, swift_settings, tmp_path / "service.log")
    yield made
    made.process.kill()
    made.process.wait()


def test_a_stop_takes_nothing_new_and_has_one_deadline_for_all(
    service: Service, bench: Bench, server: HlsServer, streams: dict[str, Path]
) -> None:
    live = server.add_live("/live", streams["ts"])
    bench.add(hls=live, sec="60")
    wait_until(service.status, lambda seen: bool(seen and seen["slots"]))
    [first] = bench.redis.xrange(bench.stream)
    with service.open_request():
        # The server has the request, as it has answered one that came after it.
        wait_until(service.status)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: b"stream.stopping" in service.log.read_bytes(), seconds=GRACE_SECONDS)
        bench.add(hls=live, sec="60")
        code = service.process.wait(GRACE_SECONDS + 60)
        seconds = time.monotonic() - began
    log = service.log.read_text()
    assert code == 0, log[-3_000:]
    assert seconds < GRACE_SECONDS + MARGIN_SECONDS, "one grace for requests and jobs, not two"
    [group] = bench.redis.xinfo_groups(bench.stream)
    assert group["last-delivered-id"] == first[0], "the second entry is for others"
    [pending] = bench.redis.xpending_range(bench.stream, "workers", "-", "+", 10)
    assert (pending["message_id"], pending["consumer"]) == (first[0], "handed-back")
    assert pending["times_delivered"] == 0


@pytest.mark.parametrize("redis_server", ["valkey"], indirect=True)
def test_a_request_that_came_in_before_the_stop_is_answered(
    bench: Bench, swift_settings: SwiftSettings, local_servers: LocalServers, tmp_path: Path
) -> None:
    changes = {"DATABASE_URL": local_servers.database_url, "SHUTDOWN_GRACE_SECONDS": "60"}
    service = Service(bench, swift_settings, tmp_path / "service.log", **changes)
    file = io.BytesIO()
    Image.new("RGB", (320, 180)).save(file, "JPEG")
    picture = file.getvalue()
    head = (
        "POST /api/v1/damage-detection/image HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {local_servers.api_key}\r\n"
        f"content-type: image/jpeg\r\ncontent-length: {len(picture)}\r\n\r\n"
    )
    try:
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
            client.sendall(head.encode())
            wait_until(service.status)
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: b"stream.stopping" in service.log.read_bytes(), seconds=60)
            client.sendall(picture)
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.headers["connection"]) == (200, "close"), answer.read()
        assert service.process.wait(60) == 0
    finally:
        service.process.kill()
        service.process.wait()


def test_requests_that_wait_are_sent_away_and_one_that_hangs_is_left(guard: NetGuard) -> None:
    detection = DetectionSettings()
    on_demand = OnDemand(
        load_detector(detection),
        detection,
        OnDemandSettings(),
        guard=guard,
        limits=lambda seconds: ReadLimits(samples=9, wall_seconds=seconds),
    )
    begun, end = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        end.wait(30)

    async def ask() -> float:
        first = asyncio.create_task(on_demand.run(hang))
        await asyncio.to_thread(begun.wait, 30)
        second = asyncio.create_task(on_demand.run(hang))
        await asyncio.sleep(0)
        on_demand.ask_to_stop()
        began = time.monotonic()
        await asyncio.to_thread(on_demand.close, timeout_seconds=0.2)
        seconds = time.monotonic() - began
        end.set()
        await first
        with pytest.raises(StoppingError):
            await second
        return seconds

    assert asyncio.run(ask()) < 20
