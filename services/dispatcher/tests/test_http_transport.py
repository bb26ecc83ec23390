"""The HTTP way: a real receiver checks what is posted and answers as told."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from dispatcher_scene import Scene, running

from headrace_common import webhooks
from headrace_common.circuit import CircuitState
from headrace_common.contracts.analysis import AnalysisRequest
from headrace_common.contracts.jobs import JobStatus
from headrace_common.jobs import Change
from headrace_dispatcher.transports import TransportName
from headrace_local.waiting import wait_until

SECRET = webhooks.secret_from_bytes(b"s" * 32)


@dataclass
class AnalysisServer:
    """An analysis server that answers with the next of `answers`, the last one for ever."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(202, {})])
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        self.received.append((headers, body))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def analysis_server() -> Iterator[AnalysisServer]:
    server = AnalysisServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, extra = server.take(headers, body)
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/analyze"
    yield server
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def http_scene(scene_with: Callable[..., Scene], analysis_server: AnalysisServer) -> Scene:
    return scene_with(
        use_sqs_queue=False, analysis_server_url=analysis_server.url, webhook_secrets=[SECRET]
    )


def test_the_same_body_is_posted_and_signed(
    http_scene: Scene, analysis_server: AnalysisServer
) -> None:
    job_id = http_scene.job()
    with running(http_scene):
        job = wait_until(
            lambda: http_scene.load(job_id), lambda job: job.status == "queued_for_analysis"
        )
    headers, body = analysis_server.received[0]
    assert AnalysisRequest.model_validate_json(body).job_id == job_id
    assert webhooks.verify(body, headers, secrets=[SECRET])
    assert (job.transport, job.meta) == ("http", {"analysis_server_status": 202})


def test_a_busy_server_is_asked_again(http_scene: Scene, analysis_server: AnalysisServer) -> None:
    analysis_server.answers = [(503, {"retry-after": "0"}), (429, {}), (200, {})]
    job_id = http_scene.job()
    with running(http_scene):
        wait_until(lambda: http_scene.load(job_id), lambda job: job.status == "queued_for_analysis")
    assert len(analysis_server.received) == 3


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_ends_the_job(
    http_scene: Scene, analysis_server: AnalysisServer, status: int
) -> None:
    analysis_server.answers = [(status, {"location": "http://127.0.0.1:1/"})]
    job_id = http_scene.job()
    with running(http_scene):
        job = wait_until(lambda: http_scene.load(job_id), lambda job: job.status == "failed")
    assert f"answered {status}" in (job.error_message or "")
    assert len(analysis_server.received) == 1


def test_a_server_that_does_not_take_our_signature_costs_no_job(
    scene_with: Callable[..., Scene], analysis_server: AnalysisServer
) -> None:
    """Its clock is wrong, or one of the secrets: found by chaos."""
    scene = scene_with(
        use_sqs_queue=False, analysis_server_url=analysis_server.url, job_max_retries=0
    )
    analysis_server.answers = [(401, {}), (403, {}), (202, {})]
    job_id = scene.job()
    with running(scene):
        wait_until(lambda: scene.load(job_id), lambda job: job.status == "queued_for_analysis")
    assert len(analysis_server.received) == 3


def test_a_job_that_makes_a_server_fail_ends_after_its_tries(
    http_scene: Scene, analysis_server: AnalysisServer
) -> None:
    analysis_server.answers = [(500, {})]
    job_id = http_scene.job()
    with running(http_scene):
        job = wait_until(
            lambda: http_scene.load(job_id), lambda job: job.status == JobStatus.FAILED
        )
        assert http_scene.dispatcher.circuits.of(TransportName.HTTP).state is CircuitState.CLOSED
    assert (job.error_code, len(analysis_server.received)) == ("dispatch_failed", 4)
    waits = [text for text in http_scene.messages(job_id) if "answered 500; trying again" in text]
    assert len(waits) == 3


@pytest.mark.parametrize("status", [302, 404])
def test_a_url_that_is_wrong_ends_few_jobs(
    scene_with: Callable[..., Scene], analysis_server: AnalysisServer, status: int
) -> None:
    scene = scene_with(
        use_sqs_queue=False,
        analysis_server_url=analysis_server.url,
        job_max_retries=1,
        circuit_failures=2,
    )
    analysis_server.answers = [(status, {"location": "http://127.0.0.1:1/"})] * 6 + [(202, {})]
    job_ids = [scene.job() for _ in range(4)]
    with running(scene):
        wait_until(
            lambda: {scene.load(job_id).status for job_id in job_ids},
            lambda seen: seen == {"queued_for_analysis"},
        )


def test_workers_that_were_killed_cost_an_innocent_job_no_try(
    scene_with: Callable[..., Scene], analysis_server: AnalysisServer
) -> None:
    scene = scene_with(
        use_sqs_queue=False, analysis_server_url=analysis_server.url, job_max_retries=1
    )
    analysis_server.answers = [(500, {}), (202, {})]
    job_id = scene.job()
    taken = Change(job_id=job_id, to=JobStatus.PROCESSING, message="", takes_up=True)
    for _ in range(5):
        scene.store.apply([taken])
    with running(scene):
        wait_until(lambda: scene.load(job_id), lambda job: job.status == "queued_for_analysis")
    assert len(analysis_server.received) == 2


def test_a_job_that_is_alone_with_the_server_that_it_makes_fail_ends(
    scene_with: Callable[..., Scene], analysis_server: AnalysisServer
) -> None:
    scene = scene_with(
        use_sqs_queue=False,
        analysis_server_url=analysis_server.url,
        job_max_retries=1,
        circuit_failures=1,
        dispatch_patience_seconds=0.5,
    )
    analysis_server.answers = [(500, {})]
    job_id = scene.job()
    with running(scene):
        job = wait_until(lambda: scene.load(job_id), lambda job: job.status == JobStatus.FAILED)
    assert job.error_code == "dispatch_failed"


def test_a_server_that_fails_for_all_costs_nobody_more_than_a_try(
    scene_with: Callable[..., Scene], analysis_server: AnalysisServer
) -> None:
    scene = scene_with(
        use_sqs_queue=False,
        analysis_server_url=analysis_server.url,
        job_max_retries=1,
        circuit_failures=4,
        # Nobody's second try comes before the first ones of four.
        retry_base_seconds=4,
    )
    analysis_server.answers = [*([(500, {})] * 12), (202, {})]
    ids = [scene.job() for _ in range(12)]
    with running(scene):
        wait_until(
            lambda: {scene.load(job_id).status for job_id in ids},
            lambda seen: seen == {"queued_for_analysis"},
        )
    assert len(analysis_server.received) == 24


def test_a_server_that_is_away_is_waited_for(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(
        use_sqs_queue=False,
        analysis_server_url="http://127.0.0.1:1/analyze",
        job_max_retries=0,
        circuit_failures=1,
    )
    job_id = scene.job()
    with running(scene):
        circuit = scene.dispatcher.circuits.of(TransportName.HTTP)
        wait_until(lambda: circuit.view().failures, lambda count: count >= 3)
        # Not while a try is due or under way.
        job = wait_until(lambda: scene.load(job_id), lambda job: job.waiting_for is not None)
    assert (job.status, job.waiting_for) == ("processing", "analysis_server")


def test_an_answer_without_end_takes_neither_time_nor_memory(
    scene_with: Callable[..., Scene],
) -> None:
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(202)
            self.end_headers()
            try:
                while not over.wait(0.01):
                    self.wfile.write(b"x" * 65_536)
            except OSError:
                over.set()  # nobody listens any more

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{http.server_port}/analyze"
        scene = scene_with(use_sqs_queue=False, analysis_server_url=url)
        job_id = scene.job()
        with running(scene):
            wait_until(
                lambda: scene.load(job_id),
                lambda job: job.status == JobStatus.QUEUED_FOR_ANALYSIS,
            )
            assert over.wait(60), "the connection was closed"
    finally:
        over.set()
        http.shutdown()
        thread.join()
        http.server_close()
