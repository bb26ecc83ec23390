"""A target of another package, from its schedule to the package's own worker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firing_bench import FiringBench
from sqlalchemy import select

from headrace_common.db import Firing, Schedule
from headrace_common.settings import DatabaseSettings
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

#: Nothing of Headrace but the contract: a plain broker, and Dramatiq's own worker.
_PACKAGE = """
import json, os
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage
from pydantic import BaseModel, Field
from headrace_common.contracts.schedules import TargetContract

broker = RedisBroker(url=os.environ["ACME_REDIS"], namespace=os.environ["ACME_NAMESPACE"])
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


class ReportParams(BaseModel):
    region: str = Field(pattern="^[a-z]+$")
    days: int = 7


TARGET = TargetContract(
    name="acme.report",
    summary="Write the report of a region",
    params=ReportParams,
    queue="acme_reports",
    actor="acme.report",
    tracked=False,
    key_of=lambda params: f"report:{params.region}",
)


@dramatiq.actor(actor_name="acme.report", queue_name="acme_reports")
def report(region, days=7):
    options = CurrentMessage.get_current_message().options
    told = {"region": region, "days": days, "firing_id": options["firing_id"]}
    with open(os.environ["ACME_OUT"], "a") as out:
        out.write(json.dumps(told) + "\\n")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Install it, and return the folder to put on the path."""
    folder = tmp_path / "site-packages"
    info = folder / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "acme_reports.py").write_text(_PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headrace.targets]\nreport = acme_reports:TARGET\n")
    return folder


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[None]:
    """Run a process of Python's until its standard input ends, or it is told to stop."""
    started = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield
        assert started.poll() is None
    finally:
        started.terminate()
        started.communicate(timeout=60)


def test_its_actor_gets_the_parameters_in_a_worker_of_its_own(
    firing_bench: FiringBench,
    fresh_database: DatabaseSettings,
    redis_values: dict[str, Any],
    package: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    environment = {
        "PYTHONPATH": str(package),
        "ACME_REDIS": redis_values["redis_url"].replace(
            "://", f"://:{redis_values['redis_password']}@"
        ),
        "ACME_NAMESPACE": redis_values["dramatiq_namespace"],
        "ACME_OUT": str(out),
    }
    told = {
        "redis": redis_values,
        "database": {"database_url": fresh_database.database_url.get_secret_value()},
    }
    due = datetime.now(UTC) - timedelta(seconds=1)
    with firing_bench.database.begin() as session:
        session.add(
            Schedule(
                id="nightly",
                name="nightly",
                trigger={"type": "at", "at": due.isoformat()},
                target="acme.report",
                params={"region": "north", "days": 3},
                target_key="report:north",
                created_by="test",
                changed_by="test",
                next_fire_at=due,
                next_due_at=due,
            )
        )
    leader = Path(__file__).with_name("leading_process.py")
    with (
        process(str(leader), json.dumps(told), **environment),
        process("-m", "dramatiq", "acme_reports", "-p", "1", "-t", "1", **environment),
    ):
        wait_until(lambda: out.exists() and out.read_text().endswith("\n"))
        firing = wait_until(lambda: _only_firing(firing_bench), lambda row: row.state != "pending")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines == [{"region": "north", "days": 3, "firing_id": firing.id}]
    assert (firing.state, firing.reason) == ("succeeded", None), "its message is on the queue"


def _only_firing(bench: FiringBench) -> Firing:
    with bench.database.begin() as session:
        return session.scalars(select(Firing)).one()
