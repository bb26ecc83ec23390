"""`make monitoring-live`: Prometheus scrapes a stack that works, and every expression has data.

Then each dashboard is drawn from what it answers: `docs/images/dashboard-*.png`.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from board_pictures import Picture
from camera_yard import Yard
from headrace_monitoring.__main__ import GROUPS, PLACE, PROJECT
from headrace_monitoring.boards import BOARDS
from headrace_monitoring.panels import RATE, Board
from headrace_monitoring.rules import Alert
from prometheus_server import Prometheus, prometheus, targets_of
from runbook_commands import Reader
from test_expressions import SELECTOR
from usage import Usage
from watched_stack import WatchedStack, watched_stack

from headrace_local.waiting import wait_until

#: Between two scrapes; the rules keep their own pace.
SCRAPE_SECONDS: Final = 3
#: What Grafana takes for a rate at this pace would be 12 s; rates of what is seldom want more.
WINDOW: Final = "[30s]"
#: What the slowest needs: the first rate of what house-keeping does every minute.
PATIENCE_SECONDS: Final = 300
#: Of which the pictures have lines.
SHOWN_SECONDS: Final = 150
IMAGES: Final = PROJECT / "docs" / "images"
#: Of a picture, so that the repository stays small.
MOST_BYTES: Final = 150_000


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what `make monitoring-live` is for


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStack]:
    with watched_stack(tmp_path_factory.mktemp("monitored") / "stack") as running:
        yield running


@pytest.fixture(scope="module")
def server(stack: WatchedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    place, targets = tmp_path_factory.mktemp("prometheus"), targets_of(stack.state)
    with prometheus(place, targets, PLACE / "rules.yaml", seconds=SCRAPE_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def used_since(
    stack: WatchedStack, server: Prometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[float]:
    """Use the stack as long as tests run; the Unix time at which that began."""
    began = time.time()
    with Usage(stack, tmp_path_factory.mktemp("clip")) as usage:
        yield began
        usage.check()


@pytest.mark.timeout(600)
def test_every_expression_answers_with_data_under_load(
    server: Prometheus, used_since: float
) -> None:
    waiting = {f"{name}: {title}\n    {expr}": expr for name, title, expr in expressions()}
    table: list[tuple[str, int]] = []

    def look() -> bool:
        for name, expr in list(waiting.items()):
            if found := server.series(expr.replace(RATE, WINDOW)):
                table.append((name, found))
                del waiting[name]
        return not waiting

    try:
        wait_until(look, seconds=PATIENCE_SECONDS)
    except AssertionError as late:
        raise AssertionError("no data for\n" + "\n".join(waiting)) from late
    for part in sorted({name.partition(":")[0] for name, _ in table}):
        series = [found for name, found in table if name.partition(":")[0] == part]
        say(f"{len(series):4} expressions, {sum(series):4} series  {part}")
    assert server.firing() == []


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
    rules = wait_until(
        server.rules,
        lambda seen: all(rule["health"] != "unknown" for rule in seen),
        seconds=60,
    )
    assert len(rules) == sum(len(group.rules) for group in GROUPS)
    assert [rule for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.timeout(600)
def test_every_command_of_a_runbook_works(
    stack: WatchedStack, used_since: float, tmp_path: Path
) -> None:
    yard = Yard(stack, tmp_path)
    try:
        faults = Reader(stack, yard).faults()
        assert not faults, "\n".join(faults)
    finally:
        yard.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_dashboard_can_be_drawn(server: Prometheus, used_since: float, board: Board) -> None:
    wait_until(lambda: time.time() > used_since + SHOWN_SECONDS, seconds=SHOWN_SECONDS + 10)
    now = time.time()
    picture = Picture(server, now - SHOWN_SECONDS, now, WINDOW)
    drawn = picture.draw((PLACE / "dashboards" / f"{board.name}.json").read_text())
    assert picture.empty == [], "panels without data"
    IMAGES.mkdir(exist_ok=True)
    file = IMAGES / f"dashboard-{board.name}.png"
    drawn.save(file, optimize=True)
    size = file.stat().st_size
    say(f"{size / 1000:4.0f} kB  {file.relative_to(PROJECT)}")
    assert size < MOST_BYTES
