"""What every app does with a request, served by uvicorn as in production."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from pydantic import BaseModel

from headrace_common.errors import UnauthorizedError
from headrace_common.settings import ProcessSettings
from headrace_common.web import Authenticator, Check, create_app, own_body_limit
from headrace_common.web.app import MAX_JSON_BODY_BYTES
from headrace_local.waiting import wait_until

COUNTERS = {"counters": {"taken": 3}}
JSON = {"content-type": "application/json"}
#: Threads in which an app calls what is no coroutine: anyio's default.
THREADS = 40
WAITING = threading.Semaphore(0)
RELEASED = threading.Event()


class Note(BaseModel):
    text: str


def _app() -> FastAPI:
    def fail() -> None:
        raise RuntimeError("a thread with a secret name has ended")

    app = create_app(
        ProcessSettings(),
        service="notes",
        description="",
        alive=[Check("thread", fail)],
        json_metrics=lambda: COUNTERS,
    )

    @app.post("/notes")
    def take(note: Note) -> int:
        return len(note.text)

    @app.post("/streams")
    async def stream(request: Request) -> int:
        own_body_limit(request)
        return sum([len(chunk) async for chunk in request.stream()])

    @app.get("/notes")
    def read() -> str:
        return "nothing"

    @app.get("/waiting")
    def wait() -> str:
        WAITING.release()
        RELEASED.wait(60)
        return "done"

    return app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(_app(), log_config=None, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def _ask(method: str, url: str, **options: Any) -> httpx.Response:
    return httpx.request(method, url, timeout=60, **options)


def _whole(body: bytes) -> bytes:
    return body


def _in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


@pytest.mark.parametrize("sent", [_whole, _in_chunks])
def test_a_body_that_is_too_large_is_a_problem(
    url: str, sent: Callable[[bytes], bytes | Iterator[bytes]]
) -> None:
    body = b'{"text": "' + b"x" * MAX_JSON_BODY_BYTES + b'"}'
    answer = _ask("POST", f"{url}/notes", content=sent(body), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "too_large"
    assert str(MAX_JSON_BODY_BYTES) in answer.json()["detail"]


def test_a_body_within_the_limit_is_taken(url: str) -> None:
    body = b'{"text": "' + b"x" * (MAX_JSON_BODY_BYTES - 12) + b'"}'
    assert len(body) == MAX_JSON_BODY_BYTES
    assert (
        _ask("POST", f"{url}/notes", content=body, headers=JSON).json() == MAX_JSON_BODY_BYTES - 12
    )


def test_who_reads_the_body_as_a_stream_sets_the_limit(url: str) -> None:
    body = b"x" * (3 * MAX_JSON_BODY_BYTES)
    assert _ask("POST", f"{url}/streams", content=body).json() == len(body)


def test_a_body_that_nobody_reads_hides_no_answer(url: str) -> None:
    body = b"x" * (MAX_JSON_BODY_BYTES + 1)
    assert _ask("POST", f"{url}/nowhere", content=body).json()["code"] == "not_found"
    assert _ask("GET", f"{url}/notes", content=body).json() == "nothing"


def test_a_dead_part_is_503_and_is_told_by_its_kind_only(url: str) -> None:
    answer = _ask("GET", f"{url}/health/live")
    assert answer.status_code == 503
    check = answer.json()["checks"]["thread"]
    assert (answer.json()["status"], check["ok"], check["error"]) == (
        "unavailable",
        False,
        "RuntimeError",
    )


def test_a_process_whose_threads_are_all_taken_lives_and_is_seen(url: str) -> None:
    """As while the database hangs: a restart of all that wait for it would help nobody."""
    with ThreadPoolExecutor(THREADS + 5) as clients:
        asked = [clients.submit(_ask, "GET", f"{url}/waiting") for _ in range(THREADS + 5)]
        try:
            assert all(WAITING.acquire(timeout=60) for _ in range(THREADS))
            assert _ask("GET", f"{url}/health/live").json()["checks"].keys() == {"thread"}
            assert "python_info" in _ask("GET", f"{url}/metrics").text
            assert not any(each.done() for each in asked)
        finally:
            RELEASED.set()
        assert {each.result().json() for each in asked} == {"done"}


def test_spans_carry_no_token_of_a_callback_url() -> None:
    # A process of its own: the tracer of a process is set once.
    script = """
from fastapi.testclient import TestClient
from headrace_common.settings import ProcessSettings
from headrace_common.telemetry import configure_tracing
from headrace_common.web import create_app
configure_tracing(service="notes")
app = create_app(ProcessSettings(), service="notes", description="")
for query in ("job_id=j&token=s3cret&a=1", "token=s3cret"):
    TestClient(app).post(f"/webhooks/analysis?{query}")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OTEL_TRACES_EXPORTER": "console"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for shown in ("job_id=j&token=[redacted]&a=1", "token=[redacted]"):
        assert f'"url.query": "{shown}"' in done.stdout
    assert "s3cret" not in done.stdout


def test_metrics_answer_json_only_where_the_service_has_it_and_it_is_asked(url: str) -> None:
    # What Prometheus itself sends: its formats, then anything.
    scraper = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1"
    assert _ask("GET", f"{url}/metrics", headers={"accept": "application/json"}).json() == COUNTERS
    scraped = _ask("GET", f"{url}/metrics", headers={"accept": scraper})
    assert scraped.headers["content-type"].startswith("text/plain")
    assert "headrace_http_request_duration_seconds" in scraped.text


def test_what_clients_invent_makes_no_series(url: str) -> None:
    def series() -> set[tuple[str, str]]:
        return {
            (sample.labels["method"], sample.labels["route"])
            for family in REGISTRY.collect()
            if family.name == "headrace_http_request_duration_seconds"
            for sample in family.samples
        }

    before = series()
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(20):
            for path in (f"/invented/{number}", f"/notes/{number}", "/notes"):
                client.request(f"INVENTED{number}", path)
                client.get(path, params={"q": number})
    methods = ("GET", "other")
    invented = {(method, route) for method in methods for route in ("unmatched", "/notes")}
    assert series() - before <= invented


def test_a_process_without_a_database_knows_no_key() -> None:
    authenticator = Authenticator(None, legacy_open=True)
    assert authenticator.identify(None, legacy_endpoint=True).key_id is None
    with pytest.raises(UnauthorizedError, match="DATABASE_URL"):
        authenticator.identify("hr_0123456789ab_secret", legacy_endpoint=True)
    with pytest.raises(UnauthorizedError):
        authenticator.identify(None, legacy_endpoint=False)


def test_the_log_of_a_request_knows_its_job_and_its_trace_also_where_it_fails() -> None:
    script = """
from fastapi.testclient import TestClient
from headrace_common.settings import ProcessSettings
from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.telemetry.trace import note_job
from headrace_common.web import create_app
configure_logging(service="notes", log_format="json")
configure_tracing(service="notes")
app = create_app(ProcessSettings(), service="notes", description="")

@app.get("/jobs/new")
def make() -> None:  # on a thread of its own
    note_job("job-1")

@app.get("/jobs/failing")
def fail() -> None:
    note_job("job-2")
    raise RuntimeError("as ever")

for path in ("new", "failing"):
    answer = TestClient(app).get(f"/jobs/{path}", headers={"traceparent": "TRACE"})
    print(answer.status_code, answer.headers["x-trace-id"])
print(answer.json()["code"])
"""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    done = subprocess.run(
        [sys.executable, "-c", script.replace("TRACE", f"00-{trace}-00f067aa0ba902b7-01")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    printed = done.stdout.splitlines()
    told = [line for line in printed if not line.startswith("{")]
    assert told == [f"200 {trace}", f"500 {trace}", "internal_error"]
    lines = [json.loads(line) for line in printed if line.startswith("{")]
    assert [(line["event"], line["job_id"], line["trace_id"]) for line in lines] == [
        ("http.request", "job-1", trace),
        ("http.failed", "job-2", trace),
        ("http.request", "job-2", trace),
    ]
    assert "RuntimeError" in json.dumps(lines[1])
