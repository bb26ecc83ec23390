"""A server that stops while clients keep connections to it, run as in production."""

import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace_local.ports import LOOPBACK, reserve_port
from headrace_local.waiting import wait_until

CLIENTS = 24
#: Long enough for any machine: what a test waits for ends long before.
DRAIN_SECONDS = 60
TIMEOUT_SECONDS = 60
SCRIPT = """
from fastapi import Request
from headrace_common.settings import ProcessSettings
from headrace_common.web import create_app, own_body_limit
from headrace_common.web.serve import serve

settings = ProcessSettings.load()
app = create_app(settings, service="notes", description="")

@app.post("/notes")
async def take(request: Request) -> int:
    return len(await request.body())

@app.post("/hasty")
async def refuse(request: Request) -> str:
    own_body_limit(request)
    return "without a look at the body"

@app.get("/slow")
async def slow() -> str:
    await app.state.stopping.wait()
    return "late"

serve(app, settings)
"""


class Server:
    """A process that serves on `port`."""

    def __init__(self, log: Path, **env: str) -> None:
        self.port = reserve_port()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT],
                env={"PORT": str(self.port), "DRAIN_SECONDS": str(DRAIN_SECONDS), **env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._log = log
        wait_until(self._answers, seconds=TIMEOUT_SECONDS)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()[-3_000:]
        try:
            return get(self, "/health/ready").status == 200
        except OSError:
            return False

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(LOOPBACK, self.port, timeout=TIMEOUT_SECONDS)

    def begin_to_stop(self) -> None:
        """Send the signal, and wait until the server has taken note of it."""
        self.process.send_signal(signal.SIGTERM)
        wait_until(lambda: b"process.draining" in self._log.read_bytes(), seconds=TIMEOUT_SECONDS)

    def wait(self) -> float:
        """Wait for its end, and return how long that took in seconds."""
        began = time.monotonic()
        code = self.process.wait(TIMEOUT_SECONDS)
        assert code == 0, self._log.read_text()[-3_000:]
        return time.monotonic() - began


@contextmanager
def serving(tmp_path: Path, **env: str) -> Iterator[Server]:
    server = Server(tmp_path / "log", **env)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def get(server: Server, path: str) -> http.client.HTTPResponse:
    client = server.connect()
    try:
        client.request("GET", path)
        answer = client.getresponse()
        answer.read()
        return answer
    finally:
        client.close()


def post(client: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """Send once: a connection that was closed meanwhile is an error."""
    client.request("POST", "/notes", body=b"x" * 100)
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b"100")
    return answer


def test_kept_connections_are_served_once_more_and_none_is_reset(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        for client in clients:
            assert post(client).headers["connection"] is None
        sockets = [client.sock for client in clients]
        server.begin_to_stop()
        # New ones are served still: not everybody knows yet that this replica goes away.
        ready, live = get(server, "/health/ready"), get(server, "/health/live")
        assert (ready.status, live.status) == (503, 200)
        assert [client.sock for client in clients] == sockets
        for client in clients:
            assert post(client).headers["connection"] == "close"
        assert server.wait() < DRAIN_SECONDS / 2, "it waited though nobody was left"


def test_without_a_drain_kept_connections_are_closed(tmp_path: Path) -> None:
    with serving(tmp_path, DRAIN_SECONDS="0") as server:
        client = server.connect()
        post(client)
        server.begin_to_stop()
        server.wait()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            post(client)
        client.close()


def test_a_connection_that_nobody_uses_holds_a_stop_up_for_the_drain_only(tmp_path: Path) -> None:
    with serving(tmp_path, DRAIN_SECONDS="1") as server:
        client = server.connect()
        post(client)
        began = time.monotonic()
        server.begin_to_stop()
        assert server.wait() < TIMEOUT_SECONDS / 2
        assert time.monotonic() - began >= 1
        client.close()


def test_an_answer_under_way_is_finished_and_tells_to_go(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        client = server.connect()
        client.request("GET", "/slow")
        # It is in: requests of one client come in order, and this one is another's.
        wait_until(lambda: get(server, "/health/live").status == 200)
        server.begin_to_stop()
        answer = client.getresponse()
        assert (answer.read(), answer.headers["connection"]) == (b'"late"', "close")
        server.wait()


def test_an_answer_before_the_end_of_its_request_leaves_the_connection_open(tmp_path: Path) -> None:
    with serving(tmp_path) as server, socket.create_connection((LOOPBACK, server.port)) as client:
        client.settimeout(TIMEOUT_SECONDS)
        server.begin_to_stop()
        client.sendall(b"POST /hasty HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nfirst")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.headers["connection"]) == (200, None)
        assert answer.read()
        client.sendall(b"x" * (100_000 - len("first")))
        client.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
