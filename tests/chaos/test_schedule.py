"""The schedule of faults, and the report: all decided by what is put in."""

import json
from pathlib import Path

from headrace_chaos.injector import Outcome
from headrace_chaos.modes import HttpErrors, Slow
from headrace_chaos.report import Report
from headrace_chaos.schedule import FaultKind, PlannedFault, Targets, plan_faults
from headrace_chaos.violations import Violation, ViolationKind
from rich.console import Console

_TARGETS = Targets(
    servers=("postgres", "valkey", "s3"),
    services=("dispatcher", "dispatcher-2", "gpu-preprocessor"),
    proxies=("postgres", "valkey", "s3", "results"),
    http=("s3", "results"),
    clocked=("dispatcher-2",),
)


def test_a_seed_repeats_the_schedule_and_another_does_not() -> None:
    first = plan_faults(7, _TARGETS, faults=50, seconds=100)

    assert plan_faults(7, _TARGETS, faults=50, seconds=100) == first
    assert plan_faults(8, _TARGETS, faults=50, seconds=100) != first


def test_every_kind_comes_once_before_any_comes_again() -> None:
    planned = plan_faults(1, _TARGETS, faults=len(FaultKind), seconds=60)

    assert {fault.kind for fault in planned} == set(FaultKind)


def test_every_process_is_killed_before_one_is_killed_again() -> None:
    planned = plan_faults(2, _TARGETS, faults=300, seconds=60)
    killed = [fault.target for fault in planned if fault.kind is FaultKind.KILL]

    assert set(killed[:6]) == {*_TARGETS.servers, *_TARGETS.services}


def test_faults_are_in_order_within_the_run_and_not_too_long() -> None:
    planned = plan_faults(3, _TARGETS, faults=300, seconds=600, longest=5)

    assert [fault.at for fault in planned] == sorted(fault.at for fault in planned)
    assert planned[0].at >= 0
    assert planned[-1].at <= 600
    assert max(fault.seconds for fault in planned) <= 5
    for fault in planned:
        assert fault.target in _TARGETS.of(fault.kind)
        assert (fault.kind is FaultKind.CLOCK) == bool(fault.offset)
        assert (fault.kind is FaultKind.ERRORS) == isinstance(fault.mode, HttpErrors)
        assert (fault.kind is FaultKind.SLOW) == isinstance(fault.mode, Slow)
        assert str(fault.number) in str(fault)


def test_without_clocks_none_jumps() -> None:
    targets = Targets((), ("dispatcher",), (), (), clocked=())
    planned = plan_faults(1, targets, faults=20, seconds=60)

    assert {fault.kind for fault in planned} == {
        FaultKind.KILL,
        FaultKind.RESTART,
        FaultKind.FREEZE,
    }


def _outcome(number: int, kind: FaultKind, recovery: float | None) -> Outcome:
    planned = PlannedFault(number, 1.0, kind, "s3")
    return Outcome(planned, happened=True, began=1.0, ended=2.0, recovery=recovery)


def _report(*violations: Violation) -> Report:
    return Report(
        seed=7,
        command=("make", "chaos", "SEED=7"),
        jobs={"completed": 3},
        ways={"upload": 3},
        outcomes=[
            _outcome(1, FaultKind.KILL, 4.0),
            _outcome(2, FaultKind.KILL, 1.0),
            _outcome(3, FaultKind.KILL, 2.5),
            _outcome(4, FaultKind.CUT, None),
        ],
        violations=violations,
        unsettled=(),
        answers={"200": 3},
        failed_requests={"requests failed": 1},
        seconds={"faults": 60.0},
    )


def test_the_table_has_the_recovery_of_each_kind(tmp_path: Path) -> None:
    report = _report()
    report.write(tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()

    assert "| kill -9 | 3 | 2.5 s | 4.0 s |  |" in lines
    assert "| cut | 1 |  |  | 1 |" in lines
    assert "- repeat: make chaos SEED=7" in lines
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["clean"] is True
    assert [each["median"] for each in data["recoveries"]] == [2.5, None]


def test_a_violation_is_shown_and_spoils_the_run() -> None:
    report = _report(Violation(ViolationKind.LOST, "job-1", "nowhere"))
    console = Console(record=True, width=120)
    report.show(console)

    assert not report.is_clean
    assert "lost: job-1: nowhere" in console.export_text()
