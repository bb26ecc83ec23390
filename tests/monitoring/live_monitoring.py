"""`make monitoring-live`: Prometheus scrapes a stack that works, and every expression has data."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

import pytest
import redis
from camera_yard import STREAM, Yard
from dramatiq import Message
from headrace_monitoring.__main__ import GROUPS, PLACE
from headrace_monitoring.boards import BOARDS
from headrace_monitoring.panels import RATE
from headrace_monitoring.rules import Alert
from planner import Planner
from prometheus_server import JOBS, Prometheus, prometheus
from stack_user import RECORDINGS, User
from test_expressions import SELECTOR

from headrace_local import control
from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until

RULES = (PLACE / "rules.yaml").read_text()
#: What makes rules slow: how long a condition must last, and how far they look back.
LASTS = re.compile(r"((?:keep_firing_)?for|interval): \d+[smh]$", re.MULTILINE)
WINDOWS = re.compile(r"\[(?:5|15|30)m\]")
#: Between two scrapes; the rules keep their own pace.
SCRAPE_SECONDS = 3
#: What the slowest needs: the first rate of what house-keeping does every minute.
PATIENCE_SECONDS = 240


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    directory = tmp_path_factory.mktemp("monitored") / "stack"
    control.up_detached(directory, parent=os.getpid())
    yield LocalStack(directory)
    control.down(directory, hurried=True)


class Load:
    """Somebody who uses everything a little, again and again."""

    def __init__(self, stack: LocalStack, place: Path) -> None:
        self._stack = stack
        self._yard = Yard(stack, place)
        self._planner = Planner(stack)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.fault: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        self._planner.close()
        self._yard.close()

    def _run(self) -> None:
        try:
            token = self._yard.user.token()
            first = self._yard.user.upload(token)["job_id"]
            self._planner.add("audio.reanalyse", seconds=5, job_id=first)
            while not self._stopping.is_set():
                self._once(token)
        except Exception as fault:  # noqa: BLE001 - told to whoever waits
            self.fault = fault

    def _once(self, token: str) -> None:
        user = self._yard.user
        jobs = [user.upload(token, priority=lane)["job_id"] for lane in ("high", "normal", "low")]
        self._yard.add(self._yard.vod)
        refused = user.ingest.post(
            f"/tokens/{token}/upload-audio", files={"file": ("notes.wav", b"none of these")}
        )
        assert refused.status_code == 415
        unsigned = user.results.post("/webhooks/analysis", json={"job_id": jobs[0]})
        assert unsigned.status_code == 401
        with user.results.stream("GET", f"/jobs/{jobs[0]}/events") as events:
            assert events.status_code == 200
            self._stopping.wait(6)


@pytest.fixture(scope="module")
def server(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    place = tmp_path_factory.mktemp("prometheus")
    endpoints = stack.state.endpoints
    with prometheus(place, endpoints, PLACE / "rules.yaml", seconds=SCRAPE_SECONDS) as running:
        yield running


@pytest.mark.timeout(600)
def test_every_expression_answers_with_data_under_load(
    server: Prometheus, stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    waiting = {f"{name}: {title}\n    {expr}": expr for name, title, expr in expressions()}
    table: list[tuple[str, int]] = []
    with Load(stack, tmp_path_factory.mktemp("clip")) as load:

        def look() -> bool:
            assert load.fault is None, load.fault
            for name, expr in list(waiting.items()):
                if found := server.series(expr.replace(RATE, "[30s]")):
                    table.append((name, found))
                    del waiting[name]
            return not waiting

        try:
            wait_until(look, seconds=PATIENCE_SECONDS)
        except Exception as late:
            raise AssertionError("no data for\n" + "\n".join(waiting)) from late
    for name, found in sorted(table):
        print(f"{found:4}  {name}")  # noqa: T201 - what `make monitoring-live` is for
    up = server.ask("query", query="up")["result"]
    assert {each["metric"]["job"]: each["value"][1] for each in up} == dict.fromkeys(
        JOBS.values(), "1"
    )


def expressions() -> Iterator[tuple[str, str, str]]:
    """Yield every expression of a panel, every recording, and what every alert looks at."""
    for board in BOARDS:
        for title, expr in board.expressions():
            yield board.name, title, expr
    for group in GROUPS:
        for rule in group.rules:
            if not isinstance(rule, Alert):
                yield "recorded", rule.record, f"{rule.record}{selected(rule.labels)}"
                continue
            for metric in sorted({name for name, _ in SELECTOR.findall(rule.expr)}):
                yield "alert", rule.name, metric


def selected(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def test_prometheus_evaluates_every_rule_without_a_fault(server: Prometheus) -> None:
    def evaluated() -> list[dict[str, object]]:
        rules = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_until(evaluated, seconds=60)
    assert len(rules) == sum(len(group.rules) for group in GROUPS)
    assert [rule for rule in rules if rule["health"] != "ok"] == []


class Fault(NamedTuple):
    """Something that goes wrong, and what is to be said of it.

    Attributes:
        alerts: which fire while it lasts, and clear once it is mended.
        prod: done again and again meanwhile, where nobody would notice else.
        is_prod: that is the fault itself, and ends with it.
    """

    name: str
    alerts: set[str]
    make: Callable[[], object]
    mend: Callable[[], object]
    prod: Callable[[], object] = time.time
    is_prod: bool = False


def nothing() -> None:
    """Do nothing: the fault is what is done again and again."""


def test_alerts_fire_when_their_fault_is_made_and_clear_when_it_is_mended(
    stack: LocalStack, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    # Nobody waits four hours here: what must last does so for some seconds, and is soon forgotten.
    hurried = LASTS.sub(r"\1: 4s", WINDOWS.sub("[16s]", RULES))
    rules.write_text(hurried)
    user = User(stack)
    token = user.token()

    def upload() -> None:
        file = {"file": ("bobby.wav", (RECORDINGS / "bobby.wav").read_bytes())}
        user.ingest.post(f"/tokens/{token}/upload-audio", files=file)

    yard = Yard(stack, tmp_path)
    broker = redis.Redis.from_url(yard.env["REDIS_URL"], password=yard.env["REDIS_PASSWORD"])
    namespace = yard.env.get("DRAMATIQ_NAMESPACE", "dramatiq")

    def unsigned() -> None:
        user.results.post("/webhooks/analysis", json={"job_id": "nobody"})

    def nonsense() -> None:
        yard.redis_cli("XADD", STREAM, "*", "nothing", "to be understood")

    def of_no_actor() -> None:
        name = uuid4().hex
        options = {"redis_message_id": name}
        message: Message[Any] = Message("low_priority", "no.such.actor", (), {}, options, name)
        broker.hset(f"{namespace}:low_priority.msgs", name, message.encode())
        broker.rpush(f"{namespace}:low_priority", name)

    faults = [
        Fault(
            "a server signs wrongly", {"HeadraceReportsRefused"}, nothing, nothing, unsigned, True
        ),
        Fault("nonsense is queued", {"HeadraceDeadLettersGrow"}, nothing, nothing, nonsense, True),
        Fault(
            "messages of no actor", {"HeadraceMessagesGivenUp"}, nothing, nothing, of_no_actor, True
        ),
        Fault(
            "a lane is paused",
            {"HeadraceQueuePaused"},
            lambda: user.run("pause", "low_priority"),
            lambda: user.run("resume", "low_priority"),
        ),
        Fault(
            "results is stopped",
            {"HeadraceServiceGone", "HeadraceTargetDown"},
            lambda: stack.stop("results"),
            lambda: stack.start("results"),
        ),
        Fault(
            "the only scheduler is stopped",
            {"HeadraceSchedulerWithoutLeader"},
            lambda: stack.stop("dispatcher"),
            lambda: stack.start("dispatcher"),
        ),
        Fault(
            "Redis is stopped",
            {"HeadraceSseHubAway"},
            lambda: stack.stop("valkey"),
            lambda: stack.start("valkey"),
        ),
        Fault(
            "S3 is stopped",
            {"HeadraceCircuitOpen", "HeadraceAwsErrors"},
            lambda: stack.stop("s3"),
            lambda: stack.start("s3"),
            upload,
        ),
    ]
    endpoints = stack.state.endpoints
    with prometheus(tmp_path, endpoints, rules, seconds=2) as server:
        for fault in faults:
            wait_until(lambda: not server.firing() & fault.alerts)  # noqa: B023 - within the loop
            to_fire = took(fault.make, fault.prod, lambda: fault.alerts <= server.firing())  # noqa: B023
            prod = nothing if fault.is_prod else fault.prod
            to_clear = took(fault.mend, prod, lambda: not fault.alerts & server.firing())  # noqa: B023
            alerts = ", ".join(sorted(fault.alerts))
            print(f"{fault.name:30} {alerts:42} {to_fire:6.1f} s {to_clear:6.1f} s")  # noqa: T201
    broker.close()
    yard.close()
    user.close()


def took(deed: Callable[[], object], prod: Callable[[], object], seen: Callable[[], bool]) -> float:
    """Return the seconds from a deed until what it leads to is seen."""
    started = time.monotonic()
    deed()

    def look() -> bool:
        prod()
        return seen()

    wait_until(look, seconds=90)
    return time.monotonic() - started
