"""A roll-out on real servers: shares, figures, copies, and a sick side that is rolled back."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from dispatcher_scene import Queues, Scene, SettingsFor
from sqlalchemy import select

from headrace_common import audit, keys, webhooks
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import ShadowRun
from headrace_common.errors import NotFoundError
from headrace_common.jobs import Change, Failure
from headrace_common.keys import Scope
from headrace_dispatcher.app import build_app
from headrace_dispatcher.rollout.decision import side_of
from headrace_dispatcher.settings import DispatcherSettings
from headrace_local.waiting import wait_until

#: Soon enough for a test. A slow machine is no sickness, so that each test judges by one margin.
QUICK = {
    "min_samples": 5,
    "overdue_seconds": 1,
    "blocked_seconds": 0.5,
    "failure_margin": 1,
    "refused_margin": 1,
    "overdue_margin": 1,
    "latency_ratio": None,
}
NO_SQS = {"sqs_queue_url": "http://127.0.0.1:1/1/none", "sqs_endpoint_url": "http://127.0.0.1:1"}


class AnalysisServers:
    """Both sides: the HTTP one, and one that takes from SQS and may be sick."""

    def __init__(self) -> None:
        self.scene: Scene | None = None
        self.sqs_says: JobStatus | None = JobStatus.COMPLETED
        self.posted: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.stopping = threading.Event()

    def answer(self, request: dict[str, Any], status: JobStatus) -> None:
        assert self.scene is not None
        failure = Failure("sick", "the new side is sick") if status is JobStatus.FAILED else None
        change = Change(job_id=request["job_id"], to=status, message="Answered", failure=failure)
        try:
            self.scene.store.apply([change])
        except NotFoundError:
            assert request["job_id"].endswith(".shadow")

    def take_from_sqs(self, queues: Queues) -> None:
        while not self.stopping.is_set():
            for message in queues.receive(Lane.NORMAL):
                request = json.loads(message["Body"])
                self.received.append(request)
                if self.sqs_says is not None:
                    self.answer(request, self.sqs_says)


@pytest.fixture
def servers(queues: Queues) -> Iterator[AnalysisServers]:
    """The two, answering at once; `sqs_says` None swallows what comes over SQS."""
    servers = AnalysisServers()
    thread = threading.Thread(target=servers.take_from_sqs, args=(queues,))
    thread.start()
    yield servers
    servers.stopping.set()
    thread.join()


@contextmanager
def http_side(servers: AnalysisServers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            servers.posted.append(request)
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()
            servers.answer(request, JobStatus.COMPLETED)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/analyze"
    http.shutdown()
    thread.join()
    http.server_close()


@contextmanager
def served(settings: DispatcherSettings) -> Iterator[httpx.Client]:
    """Run a dispatcher with its API."""
    server = uvicorn.Server(uvicorn.Config(build_app(settings), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


class Rig:
    """A dispatcher that runs, its API, and both sides."""

    def __init__(self, scene: Scene, servers: AnalysisServers, client: httpx.Client) -> None:
        self.scene = scene
        self.servers = servers
        self._client = client

    def call(self, method: str, path: str, *, status: int = 200, **arguments: Any) -> Any:
        answer = self._client.request(method, path, **arguments)
        assert answer.status_code == status, answer.text
        return answer.json()

    def jobs(self, count: int) -> list[str]:
        return [self.scene.job() for _ in range(count)]

    def wait_for(self, ids: list[str], status: JobStatus) -> None:
        wait_until(lambda: all(self.scene.load(job_id).status == status for job_id in ids))


@pytest.fixture
def rig_with(settings_for: SettingsFor, servers: AnalysisServers) -> Iterator[Callable[..., Rig]]:
    """Make a rig with its settings changed; without an `analysis_server_url` of its own."""
    with http_side(servers) as url, ExitStack() as stack:

        def make(**changes: Any) -> Rig:
            settings = settings_for(
                **{
                    "use_sqs_queue": False,
                    "analysis_server_url": url,
                    "circuit_failures": 3,
                    "circuit_first_pause_seconds": 0.2,
                    **changes,
                }
            )
            scene = Scene(settings)
            stack.callback(scene.close)
            servers.scene = scene
            with scene.database.begin() as session:
                key = keys.create(session, name="test", scopes=[Scope.ADMIN]).secret_text
            client = stack.enter_context(served(settings))
            client.headers["authorization"] = f"Bearer {key}"
            return Rig(scene, servers, client)

        yield make


def test_a_share_goes_each_way_and_both_are_compared(rig_with: Callable[..., Rig]) -> None:
    rig = rig_with()
    first = rig.call("GET", "/rollout")
    assert (first["source"], first["sqs_percent"], first["version"]) == ("environment", 0, 0)
    state = rig.call("PUT", "/rollout", json={"sqs_percent": 50, "reason": "begin"})
    assert (state["source"], state["new_side"], state["version"]) == ("rollout", "sqs", 1)
    ids = rig.jobs(40)
    rig.wait_for(ids, JobStatus.COMPLETED)

    assert {job_id: rig.scene.load(job_id).transport for job_id in ids} == {
        job_id: side_of(job_id, sqs_percent=50) for job_id in ids
    }
    figures = wait_until(
        lambda: rig.call("GET", "/rollout/comparison", params={"minutes": 5}),
        lambda both: both["sqs"]["attempts_taken"] + both["http"]["attempts_taken"] == 40,
    )
    for side in ("sqs", "http"):
        count = sum(side_of(job_id, sqs_percent=50) == side for job_id in ids)
        mine = figures[side]
        assert (mine["sent"], mine["completed"], mine["failed"]) == (count, count, 0)
        assert mine["success_rate"] == 1
        assert mine["success_rate_low"] < 1
        assert 0 <= mine["latency_p50_seconds"] <= mine["latency_p99_seconds"] < 60
    assert not figures["verdict"]["sick"]
    with rig.scene.database.begin() as session:
        entry = audit.page(session, limit=1)[0][0]
    assert (entry.action, entry.details["after"]["sqs_percent"]) == ("rollout.set", 50)

    back = rig.call("POST", "/rollout/rollback", json={"reason": "enough"})
    assert (back["sqs_percent"], back["rolled_back"], back["reason"]) == (0, "sqs", "enough")
    assert rig.call("POST", "/rollout/rollback", status=409)["code"] == "nothing_to_roll_back"


def test_what_cannot_be_is_refused(rig_with: Callable[..., Rig]) -> None:
    rig = rig_with(sqs_queue_url=None)
    for change in ({"sqs_percent": 1}, {"shadow_percent": 1}):
        refused = rig.call("PUT", "/rollout", json=change, status=422)
        assert refused["code"] == "transport_not_configured"
        assert "SQS_QUEUE_URL" in refused["detail"]
    rig.call("PUT", "/rollout", json={"sqs_percent": 101}, status=422)
    assert rig.call("PUT", "/rollout", json={"auto_rollback": False})["version"] == 1
    late = rig.call("PUT", "/rollout", json={"auto_rollback": True, "version": 0}, status=409)
    assert late["code"] == "rollout_changed"
    rig.call("GET", "/rollout/shadow/none", status=404)
    with rig.scene.database.begin() as session:
        reader = keys.create(session, name="reader", scopes=[Scope.JOBS_READ]).secret_text
    other = {"authorization": f"Bearer {reader}"}
    rig.call("GET", "/rollout", headers=other)
    rig.call("PUT", "/rollout", headers=other, json={"sqs_percent": 0}, status=403)
    rig.call("POST", "/rollout/rollback", headers=other, status=403)


@pytest.mark.parametrize(
    ("sickness", "margin", "named"),
    [
        ("refuses", "refused_margin", "refusals of sqs"),
        ("swallows", "overdue_margin", "delays of sqs"),
        ("fails", "failure_margin", "failures of sqs"),
    ],
)
def test_a_sick_new_side_is_rolled_back_by_itself(
    rig_with: Callable[..., Rig],
    servers: AnalysisServers,
    sickness: str,
    margin: str,
    named: str,
) -> None:
    servers.sqs_says = None if sickness == "swallows" else JobStatus.FAILED
    rig = rig_with(**(NO_SQS if sickness == "refuses" else {}))
    rig.call("PUT", "/rollout", json={"sqs_percent": 50, "policy": {**QUICK, margin: 0.1}})
    ids = rig.jobs(40)
    state = wait_until(
        lambda: rig.call("GET", "/rollout"), lambda state: state["rolled_back"] == "sqs"
    )
    assert (state["sqs_percent"], state["changed_by"]) == (0, "auto-rollback")
    assert named in state["reason"]

    # What the sick side has not answered is answered by the healthy one.
    wait_until(lambda: all(rig.scene.load(i).finished_at is not None for i in ids))
    ended = {job_id: rig.scene.load(job_id) for job_id in ids}
    failed = {job_id for job_id, job in ended.items() if job.status == JobStatus.FAILED}
    new_side = {job_id for job_id in ids if side_of(job_id, sqs_percent=50) == "sqs"}
    assert failed <= (new_side if sickness == "fails" else set())
    assert set(ids) - failed <= {request["job_id"] for request in servers.posted}
    after = rig.jobs(5)
    rig.wait_for(after, JobStatus.COMPLETED)
    with rig.scene.database.begin() as session:
        actions = {entry.action: entry for entry in audit.page(session, limit=10)[0]}
    assert actions["rollout.auto_rollback"].actor == "auto-rollback"
    figures = actions["rollout.figures"].details
    assert figures["http"]["failed"] == 0
    assert figures["sqs"]["completed"] == 0


def test_copies_go_to_the_other_side_and_touch_nothing(
    rig_with: Callable[..., Rig], servers: AnalysisServers
) -> None:
    rig = rig_with()
    rig.call("PUT", "/rollout", json={"shadow_percent": 100})
    ids = rig.jobs(12)
    rig.wait_for(ids, JobStatus.COMPLETED)
    wait_until(lambda: len(servers.received) == 12)
    assert {request["job_id"] for request in servers.posted} == set(ids)
    assert {request["job_id"] for request in servers.received} == {f"{i}.shadow" for i in ids}
    for request in servers.received:
        query = parse_qs(urlsplit(request["callback_url"]).query)
        assert query["job_id"] == [request["job_id"]]
        token = query["token"][0]
        assert webhooks.callback_token_is_valid(token, request["job_id"], secrets=["s" * 32])
    shown = wait_until(
        lambda: rig.call("GET", f"/rollout/shadow/{ids[0]}"), lambda run: run["sent_at"]
    )
    assert (shown["transport"], shown["send_error"]) == ("sqs", None)
    assert rig.scene.load(ids[0]).transport == "http"
    # Each is noted after it was sent.
    figures = wait_until(
        lambda: rig.call("GET", "/rollout/comparison"), lambda seen: seen["shadow"]["sent"] == 12
    )
    assert figures["sqs"]["sent"] == figures["sqs"]["attempts_taken"] == 0


def test_a_copy_that_is_refused_is_a_figure_and_no_more(rig_with: Callable[..., Rig]) -> None:
    rig = rig_with(**NO_SQS)
    rig.call("PUT", "/rollout", json={"shadow_percent": 100})
    ids = rig.jobs(3)
    rig.wait_for(ids, JobStatus.COMPLETED)

    def errors() -> list[str]:
        with rig.scene.database.begin() as session:
            query = select(ShadowRun.send_error).where(ShadowRun.send_error.is_not(None))
            return [str(error) for error in session.scalars(query)]

    assert "SQS does not answer" in wait_until(errors, lambda found: len(found) == 3)[0]
    assert all("shadow" not in " ".join(rig.scene.messages(job_id)) for job_id in ids)
