"""A short drill, as `make drill` does long ones."""

import sys
from pathlib import Path

import pytest
from headrace_drill.checker import check, planted
from headrace_drill.driver import Options, run
from headrace_drill.faults import Kind

from headrace_common.settings import DatabaseSettings
from headrace_local.pytest_plugin import LocalServers


@pytest.mark.slow
@pytest.mark.stack
def test_every_due_time_fires_once_while_schedulers_die_and_freeze(
    local_servers: LocalServers, fresh_database: DatabaseSettings, tmp_path: Path
) -> None:
    """Longer, and more: `make drill MINUTES=... SCHEDULES=... SEED=...`."""
    options = Options(
        directory=tmp_path,
        schedules=60,
        seconds=18,
        seed=3,
        lease_seconds=3,
        pause_seconds=(0.5, 2),
        leader_share=1,
    )
    servers = {
        "DATABASE_URL": fresh_database.database_url.get_secret_value().replace("+psycopg", ""),
        "REDIS_URL": local_servers.redis_url,
        "REDIS_PASSWORD": local_servers.redis_password,
    }
    report = run(options, servers, say=_tell)
    for line in report.lines():
        _tell(line)

    assert list(report.violations) == []
    # A check that finds nothing has to be one that would.
    assert len(report.facts.firings) > 100
    found = {
        name: [it.rule for it in check(wrong)] for name, wrong in planted(report.facts).items()
    }
    assert found == {
        "a row removed": ["a due time did not fire", "a message of nobody's"],
        "a row doubled": ["a due time fired twice", "a firing had no effect"],
        "a message doubled": ["a firing had two effects"],
        "a message removed": ["a firing had no effect"],
        "a row of a former term": ["a former leader recorded something"],
        "a row left pending": ["a firing did not end, or not as planned"],
    }
    hits = report.take_overs()
    assert set(hits) == set(Kind)
    # A second or two; with what a busy machine takes to notice a death.
    assert max(hits[Kind.KILL]) < 30
    # A second or two longer than the lease.
    assert max(hits[Kind.FREEZE_WRITING]) < options.lease_seconds + 30


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
