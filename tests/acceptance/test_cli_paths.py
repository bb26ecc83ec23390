"""Ids of jobs that their producers chose, in the paths that the command line asks for."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from headrace.client import Client
from headrace.commands.demo_camera import download
from headrace.main import app

ID = "길 1?a=b#c%2F&d"
PATH = f"/jobs/{quote(ID, safe='')}"


class _Recorder(BaseHTTPRequestHandler):
    """Says something that is well formed, whatever is asked for, and keeps the path."""

    asked: list[str]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.asked.append(self.path)
        kind, body = "application/json", json.dumps(_TOLD)
        if self.path.endswith("/events"):
            kind, body = "text/event-stream", f"event: status\ndata: {json.dumps(_EVENT)}\n\n"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names are the library's

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


_EVENT = {
    "job_id": ID,
    "sequence": 1,
    "type": "status",
    "status": "completed",
    "progress": 100,
    "message": "",
    "data": {},
    "created_at": "2026-11-25T20:15:00Z",
}


_TOLD: dict[str, Any] = {
    "job_id": ID,
    "kind": "cctv_preprocess",
    "status": "completed",
    "message": "",
    "result": {},
    "error": None,
    "artifacts": [],
    "events": [],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths, as they came over the wire."""
    paths: list[str] = []
    handler = type("Recorder", (_Recorder,), {"asked": paths})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        for name in ("HEADRACE_INGEST_URL", "HEADRACE_RESULTS_URL"):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("HEADRACE_API_KEY", "key")
        yield paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("command", "ends"),
    [
        (["job", ID, "--json"], ["", "/timeline", "/artifacts"]),
        (["watch", ID, "--json"], ["/events"]),
        (["cancel", ID], ["/cancel"]),
        (["cancel", ID, ID], ["/cancel", "/cancel"]),
        (["retry", ID, "--json"], ["/retry"]),
    ],
)
def test_an_id_is_one_part_of_the_path(
    asked: list[str], command: list[str], ends: list[str]
) -> None:
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert asked == [PATH + end for end in ends]


def test_a_job_of_ones_own_id_is_followed(asked: list[str], tmp_path: Path) -> None:
    ask = ["preprocess", "--cctv", "c", "--hls", "http://c/x", "--sec", "1", "--job-id", ID]
    done = CliRunner().invoke(app, [*ask, "--follow", "--json"])
    assert done.exit_code == 0, done.output
    assert asked[1:] == [PATH + end for end in ("/events", "", "/artifacts")]
    with Client() as client:
        download(client, ID, "background.jpg", tmp_path / "background.jpg")
    assert asked[-1] == f"{PATH}/artifacts/background.jpg"
