"""A small run of chaos, as `make chaos` does large ones."""

from pathlib import Path
from typing import Final

import pytest
from headrace_chaos.driver import Driver, Options

_JOBS: Final = 45
_FAULTS: Final = 10


@pytest.mark.slow
@pytest.mark.timeout(1_500)  # two minutes where nothing else runs
@pytest.mark.stack
def test_no_job_is_hurt_while_things_break(tmp_path: Path) -> None:
    """Another seed, more of everything: `make chaos JOBS=... FAULTS=... MINUTES=... SEED=...`."""
    options = Options(
        directory=tmp_path, seed=20, jobs=_JOBS, faults=_FAULTS, seconds=40, longest_fault=4
    )
    report = Driver(options, say=print).run()

    assert report.violations == []
    assert report.unsettled == []
    assert sum(report.jobs.values()) >= _JOBS
    assert sum(outcome.happened for outcome in report.outcomes) >= _FAULTS - 2
    assert {outcome.recovery is None for outcome in report.outcomes if outcome.happened} == {False}
