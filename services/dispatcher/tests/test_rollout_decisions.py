"""The decisions of a roll-out: which side a job is on, what a change means, who is sick."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_common.circuit import CircuitPolicy
from headrace_dispatcher.circuits import Circuits
from headrace_dispatcher.rollout.decision import is_shadowed, place_of, side_of
from headrace_dispatcher.rollout.figures import SideFigures
from headrace_dispatcher.rollout.guard import Finding, judge
from headrace_dispatcher.rollout.outcomes import slice_of
from headrace_dispatcher.rollout.state import (
    RolloutChange,
    RolloutPolicy,
    RolloutState,
    changed,
    from_environment,
    rolled_back,
)
from headrace_dispatcher.rollout.statistics import Share, surely_above
from headrace_dispatcher.transports import TransportName
from headrace_local.waiting import wait_until

SQS, HTTP = TransportName.SQS, TransportName.HTTP

percents = st.floats(0, 100, allow_nan=False).map(lambda percent: round(percent, 2))
counts = st.integers(0, 10_000)


@given(st.text(), percents, percents)
def test_raising_the_percentage_only_moves_jobs_to_sqs(
    job_id: str, one: float, other: float
) -> None:
    low, high = sorted([one, other])
    if side_of(job_id, sqs_percent=low) is SQS:
        assert side_of(job_id, sqs_percent=high) is SQS


@given(st.text())
def test_the_ends_mean_all_and_none(job_id: str) -> None:
    assert side_of(job_id, sqs_percent=0) is HTTP
    assert side_of(job_id, sqs_percent=100) is SQS
    assert is_shadowed(job_id, shadow_percent=100)
    assert not is_shadowed(job_id, shadow_percent=0)
    assert 0 <= place_of(job_id) < 100


@pytest.mark.parametrize("percent", [1, 25, 50, 80])
def test_the_share_is_the_percentage(percent: float) -> None:
    jobs = [f"job-{number}" for number in range(20_000)]
    sqs = [job for job in jobs if side_of(job, sqs_percent=percent) is SQS]
    # Five standard deviations.
    allowed = 5 * (len(jobs) * percent / 100 * (1 - percent / 100)) ** 0.5
    assert len(sqs) == pytest.approx(len(jobs) * percent / 100, abs=allowed)
    copied = sum(is_shadowed(job, shadow_percent=50) for job in sqs)
    assert copied == pytest.approx(len(sqs) / 2, abs=5 * (len(sqs) / 4) ** 0.5)


def test_every_process_decides_the_same() -> None:
    code = "from headrace_dispatcher.rollout.decision import place_of; print(place_of('job-1'))"
    places = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert places == {str(place_of("job-1"))}


def test_a_version_after_this_must_decide_the_same() -> None:
    assert [place_of(job_id) for job_id in ("", "job-1", "job-2")] == [16.52, 6.18, 88.25]


def set_to(state: RolloutState, *percents_: float) -> RolloutState:
    for percent in percents_:
        state = changed(state, RolloutChange(sqs_percent=percent))
    return state


@pytest.mark.parametrize(
    ("begin", "path", "tried"),
    [
        (0, [5], SQS),
        (0, [50, 80, 20], SQS),
        (0, [50, 100], SQS),
        (0, [50, 0], None),
        (0, [50, 100, 80], HTTP),
        (100, [90], HTTP),
        (100, [90, 0], HTTP),
        (100, [90, 100], None),
        (100, [100], None),
    ],
)
def test_the_side_that_is_tried_is_the_one_that_got_its_first_jobs(
    begin: int, path: list[float], tried: TransportName | None
) -> None:
    assert set_to(from_environment(use_sqs=begin == 100), *path).new_side is tried


def test_a_rolled_back_side_stays_so_until_it_gets_jobs_again() -> None:
    state = rolled_back(set_to(from_environment(use_sqs=False), 50), SQS, "sick")
    assert (state.sqs_percent, state.new_side, state.rolled_back) == (0, None, SQS)
    assert changed(state, RolloutChange(shadow_percent=10)).rolled_back is SQS
    assert set_to(state, 10).rolled_back is None


@given(counts, counts)
def test_wilsons_interval_holds_the_share(count: int, more: int) -> None:
    share = Share(count, count + more)
    low, high = share.interval()
    assert 0 <= low <= high <= 1
    if share.total:
        assert low <= share.value <= high


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, table I, method 3.
    low, high = Share(81, 263).interval()
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_chance_is_told_from_a_difference() -> None:
    assert not surely_above(Share(2, 20), Share(0, 20))
    assert surely_above(Share(12, 20), Share(0, 20))
    assert not surely_above(Share(0, 20), Share(0, 20))


def figures(**numbers: float | None) -> SideFigures:
    names: dict[str, float | None] = dict.fromkeys(SideFigures.model_fields, 0)
    latency = {name: None for name in names if "latency" in name}
    return SideFigures.model_validate({**names, **latency, **numbers})


HEALTHY = figures(
    sent=100, completed=100, attempts_taken=100, latency_p95_seconds=2.0, latency_p50_seconds=1.0
)
POLICY = RolloutPolicy()


def test_two_healthy_sides_are_left_alone() -> None:
    verdict = judge(SQS, HEALTHY, HEALTHY, POLICY)
    assert not verdict.sick
    assert {check.finding for check in verdict.checks} == {Finding.FINE}


@pytest.mark.parametrize(
    ("sick", "word"),
    [
        ({"completed": 60, "failed": 40}, "failures of sqs: 40% of 100, the other side's: 0%"),
        ({"attempts_taken": 10, "attempts_refused": 30}, "refusals of sqs: 75% of 40"),
        ({"attempts_taken": 0, "blocked": 30}, "refusals of sqs: 100% of 30"),
        (
            {"completed": 0, "unanswered": 100, "overdue": 40, "overdue_unanswered": 40},
            "delays of sqs: 100% of 40",
        ),
        ({"latency_p95_seconds": 20.0}, "sqs takes 20.0 s (p95), the other side 2.0 s"),
    ],
)
def test_each_sickness_is_found_and_named(sick: dict[str, float], word: str) -> None:
    verdict = judge(SQS, HEALTHY.model_copy(update=sick), HEALTHY, POLICY)
    assert verdict.sick
    assert word in (verdict.reason or "")


def test_a_side_is_not_judged_by_few_jobs_nor_by_what_both_suffer() -> None:
    few = figures(completed=5, failed=10)
    assert not judge(SQS, few, HEALTHY, POLICY).sick
    both = HEALTHY.model_copy(update={"completed": 60, "failed": 40})
    assert not judge(SQS, both, both, POLICY).sick


def test_without_an_old_side_only_a_gross_failure_counts() -> None:
    alone = figures()
    some = HEALTHY.model_copy(update={"completed": 80, "failed": 20})
    most = HEALTHY.model_copy(update={"completed": 20, "failed": 80})
    assert not judge(SQS, some, alone, POLICY).sick
    assert judge(SQS, most, alone, POLICY).sick


def test_a_side_that_takes_nothing_is_sick_without_samples() -> None:
    none = figures()
    assert not judge(SQS, none, none, POLICY, fault_seconds=59).sick
    verdict = judge(SQS, none, none, POLICY, fault_seconds=61)
    assert (verdict.sick, verdict.reason) == (True, "sqs is at fault for 61 s")
    never = POLICY.model_copy(update={"circuit_seconds": None})
    assert not judge(SQS, none, none, never, fault_seconds=1e6).sick


def test_only_a_side_that_is_tried_and_alone_at_fault_counts() -> None:
    circuits = Circuits(CircuitPolicy(failures=1, first_seconds=60, most_seconds=60))
    assert circuits.fault_seconds(SQS, other=HTTP) == 0
    circuits.of(SQS).failed("away")
    wait_until(lambda: circuits.fault_seconds(SQS, other=HTTP) > 0)
    circuits.of(HTTP).failed("away")
    assert circuits.fault_seconds(SQS, other=HTTP) == 0
    untried = Circuits(CircuitPolicy(failures=1, first_seconds=0, most_seconds=0))
    untried.of(SQS).failed("away")
    assert untried.fault_seconds(SQS, other=HTTP) == 0


def test_a_change_begins_a_slice() -> None:
    now = datetime(2026, 1, 1, 12, 0, 17, tzinfo=UTC)
    assert slice_of(now, None) == now.replace(second=10)
    assert slice_of(now, now - timedelta(seconds=2)) == now - timedelta(seconds=2)
    assert slice_of(now, now - timedelta(seconds=20)) == now.replace(second=10)
