"""`make alert-drill`: every alert fires when its fault is made, and clears when it is mended."""

import time
from pathlib import Path
from typing import Final

import drill_table
import pytest
from alert_deeds import Saboteur
from alert_drill import Drill, Watch
from alert_faults import faults_of
from camera_yard import Yard
from drill_table import ALERTS
from headrace_monitoring.rules import rules_file
from hurried_rules import hurried
from prometheus_server import prometheus, targets_of
from usage import Usage
from watched_stack import WatchedStack, watched_stack

from headrace_local.waiting import wait_until

_SCRAPE_SECONDS: Final = 2
#: Longer than any window of the rules as they are loaded here.
_HEALTHY_SECONDS: Final = 25


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what `make alert-drill` is for


def stay_quiet(watch: Watch, stack: WatchedStack, place: Path) -> None:
    """Use the stack for a while, in which no alert may fire."""
    place.mkdir()
    with Usage(stack, place) as usage:
        # What a start or a fault has left is soon over.
        wait_until(lambda: not watch.names(), seconds=120)
        watch.seen.clear()
        until = time.monotonic() + _HEALTHY_SECONDS
        while time.monotonic() < until:
            usage.check()
            watch.check()
            assert watch.seen == set(), "alerts under healthy load"
            time.sleep(0.5)


@pytest.mark.timeout(1200)
def test_every_alert_fires_by_its_fault_and_clears_after_it(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(rules_file(hurried()))
    with (
        watched_stack(tmp_path / "stack") as stack,
        prometheus(tmp_path, targets_of(stack.state), rules, seconds=_SCRAPE_SECONDS) as server,
        Watch(server) as watch,
    ):
        stay_quiet(watch, stack, tmp_path / "before")
        say("nothing fires under healthy load")
        place = tmp_path / "clip"
        place.mkdir()
        yard = Yard(stack, place)
        deeds = Saboteur(stack, yard, server)
        run = Drill(watch, say)
        faults = list(faults_of(stack, deeds))
        assert sorted(name for fault in faults for name in fault.alerts) == sorted(ALERTS)
        run.run(faults)
        deeds.close()
        yard.close()
        stay_quiet(watch, stack, tmp_path / "after")
        say("nothing fires once everything is mended")
    drill_table.write(run.outcomes)
    say(drill_table.table(run.outcomes))
