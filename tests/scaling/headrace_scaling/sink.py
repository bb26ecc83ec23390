"""Stands where other teams' servers do: takes jobs slowly, and reports at once."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from headrace_common.contracts import AnalysisRequest, ReportReceipt, ReportStatus
from headrace_local.ports import LOOPBACK, reserve_port

ANALYSE: Final = "/analyze"
REPORT: Final = "/webhooks/analysis"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, sink: "Sink") -> None:
        super().__init__((LOOPBACK, reserve_port()), _Handler)
        self.sink = sink

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave a broken connection be: whoever is killed leaves some."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: without it each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        parts = urlsplit(self.path)
        if parts.path == ANALYSE:
            self._reply(self.server.sink.take(body))
        else:
            (job_id,) = parse_qs(parts.query)["job_id"]
            self._reply(self.server.sink.note(job_id, json.loads(body), self.headers["webhook-id"]))

    def _reply(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent."""


class Sink:
    """A context manager that serves on a thread."""

    def __init__(self, *, answer_seconds: float) -> None:
        """Make it.

        Args:
            answer_seconds: how long a job's answer takes.
        """
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sink")
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"
        #: How often each job was asked for.
        self.asked: Counter[str] = Counter()
        #: By job, the ids of the webhooks that said that it is completed.
        self.completed: dict[str, set[str]] = {}

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, body: bytes) -> dict[str, Any]:
        """Take a job, slowly."""
        job_id = AnalysisRequest.model_validate_json(body).job_id
        with self._lock:
            self.asked[job_id] += 1
        time.sleep(self._answer_seconds)
        return {"job_id": job_id, "status": "accepted"}

    def note(self, job_id: str, report: dict[str, Any], webhook_id: str) -> dict[str, Any]:
        """Take a report."""
        if report["status"] == ReportStatus.COMPLETED:
            with self._lock:
                self.completed.setdefault(job_id, set()).add(webhook_id)
        return ReportReceipt(
            job_id=job_id, duplicate=False, delivery=1, job_status="processing", stop=False
        ).model_dump()
