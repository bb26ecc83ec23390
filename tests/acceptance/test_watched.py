"""A Prometheus on the running stack: `make monitoring-live` and `make alert-drill`, in short."""

from pathlib import Path
from typing import Any

from headrace_monitoring.boards import BOARDS
from headrace_monitoring.panels import RATE
from headrace_monitoring.rules import rules_file
from hurried_rules import hurried
from prometheus_server import Prometheus, prometheus, targets_of
from stack_user import RECORDINGS, User

from headrace_common.contracts.lanes import Lane
from headrace_local.waiting import wait_until

PAUSED = "HeadraceQueuePaused"
#: Panels of the overview that have something to show once a job is done.
SHOWN = {"Jobs that wait", "Oldest that waits", "Leaders of the schedules", "Replicas that answer"}


def is_firing(server: Prometheus, name: str) -> bool:
    return name in {each.name for each in server.firing()}


def test_prometheus_evaluates_every_rule_and_an_alert_fires_and_clears(
    user: User, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    groups = hurried()
    rules.write_text(rules_file(groups))
    user.run("upload", RECORDINGS / "bobby.wav", "-t", user.token(), "--follow")
    with prometheus(tmp_path, targets_of(user.stack.state), rules, seconds=2) as server:
        user.run("pause", Lane.LOW.queue_name, "--reason", "to be seen")
        try:
            wait_until(lambda: is_firing(server, PAUSED), seconds=120)
        finally:
            user.run("resume", Lane.LOW.queue_name)
        wait_until(lambda: not is_firing(server, PAUSED), seconds=120)
        assert len(server.rules()) == sum(len(group.rules) for group in groups)

        def ill() -> list[dict[str, Any]]:
            return [rule for rule in server.rules() if rule["health"] != "ok"]

        def empty() -> set[str]:
            found = {
                title: server.series(expr.replace(RATE, "[10s]"))
                for board in BOARDS
                for title, expr in board.expressions()
            }
            return {title for title in SHOWN if not found[title]}

        # A process that was asked and answered late has nothing to show until it is asked again.
        wait_until(ill, lambda rules: not rules)
        wait_until(empty, lambda titles: not titles)
