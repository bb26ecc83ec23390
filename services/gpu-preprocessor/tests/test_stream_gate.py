"""What every job needs is at fault: jobs wait, lose no attempt, and go on by themselves."""

import threading
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY
from stream_harness import Bench, Effects, Gate

from headrace_common.contracts.cctv import CctvState
from headrace_common.errors import HeadraceError, UnavailableError
from headrace_gpu_preprocessor.artifacts.errors import (
    ObjectTooLargeError,
    SetConflictError,
    SwiftFullError,
    SwiftMisconfiguredError,
    SwiftNotFoundError,
    SwiftRefusedError,
    SwiftUnauthorizedError,
    SwiftUnavailableError,
)
from headrace_gpu_preprocessor.control import WorkerStatus, status_word
from headrace_gpu_preprocessor.stream import LeasedJob, gate
from headrace_local.waiting import wait_until

QUICK: dict[str, Any] = {"systemic_pause_seconds": 0.1, "systemic_pause_max_seconds": 0.4}
AWAY = SwiftUnavailableError("away")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("kind", "systemic"),
    [
        (SwiftUnavailableError, True),
        (SwiftFullError, True),
        (SwiftUnauthorizedError, True),
        (SwiftMisconfiguredError, True),
        (SwiftRefusedError, False),
        (SwiftNotFoundError, False),
        (ObjectTooLargeError, False),
        (SetConflictError, False),
        (UnavailableError, False),
    ],
)
def test_faults_of_the_store_are_no_jobs_own(
    kind: type[HeadraceError],
    systemic: bool,  # noqa: FBT001
) -> None:
    assert kind.systemic is systemic


def test_pauses_grow_and_one_job_tries_after_each() -> None:
    clock = Clock()
    made = gate.Gate(first_seconds=5, most_seconds=12, clock=clock)
    assert made.places(4, busy=2) == 4
    assert made.view() is None
    for pause in (5, 10, 12, 12):
        assert made.close(AWAY, "1-0") == pause
        clock.now += pause / 2
        assert made.close(AWAY, "2-0") == pause / 2, "it ran at the same time: the same fault"
        assert (made.places(4, busy=0), made.is_closed) == (0, True)
        clock.now += pause / 2
        assert (made.places(4, busy=0), made.places(4, busy=1), made.is_closed) == (1, 0, False)
    assert REGISTRY.get_sample_value("headrace_preprocessor_dependency_holding") == 1
    view = made.view()
    assert view is not None
    assert (view.code, view.held_seconds) == ("swift_unavailable", 39)
    made.open()
    assert made.places(4, busy=2) == 4
    assert REGISTRY.get_sample_value("headrace_preprocessor_dependency_holding") == 0
    assert made.close(AWAY, "1-0") == 5


def test_what_an_error_asks_for_is_waited_for_within_bounds() -> None:
    made = gate.Gate(first_seconds=5, most_seconds=60)
    assert made.close(SwiftUnavailableError("away", retry_after=20), "1-0") == 20
    made.open()
    assert made.close(SwiftUnavailableError("away", retry_after=9_000), "1-0") == 60


def test_who_met_the_fault_is_passed_over_once() -> None:
    made = gate.Gate(first_seconds=5, most_seconds=60)
    assert made.pass_over() == []
    made.close(AWAY, "1-0")
    assert [made.pass_over(), made.pass_over()] == [["1-0"], []]


@pytest.mark.parametrize("error", [SwiftUnavailableError, SwiftUnauthorizedError])
def test_no_job_fails_while_the_store_is_away(bench: Bench, error: type[HeadraceError]) -> None:
    back = threading.Event()
    seen: list[tuple[int, int]] = []

    def work(job: LeasedJob) -> None:
        seen.append((job.entry.attempt, job.delivery))
        if not back.is_set():
            raise error("the store is away")

    effects = Effects(work)
    consumer = bench.consumer(effects, max_concurrency=3, redis_max_retry=1, **QUICK)
    began = time.monotonic()
    jobs = bench.add(8)
    wait_until(lambda: len(effects.begun) >= 6)  # several pauses, more tries than deliveries
    snapshot = wait_until(consumer.snapshot, lambda seen: seen.busy == 0)
    assert snapshot.waiting_for is not None
    assert snapshot.waiting_for.code == error.code
    assert status_word(snapshot) == "holding"
    assert "waiting_for" in WorkerStatus.model_fields
    assert (bench.letters(), bench.delayed(), bench.ended(CctvState.FAILED)) == ([], [], [])
    told = [r.message for r in bench.reports(CctvState.PROCESSING)]
    assert any("the store is away" in message for message in told)
    tries = len(effects.begun)
    back.set()
    longest = (time.monotonic() - began) / QUICK["systemic_pause_max_seconds"]
    bench.wait_ended(jobs)
    assert set(seen) == {(0, 1)}, "neither attempts nor deliveries are counted"
    assert bench.letters() == []
    # The first three at once, and one after each pause of which the first two are shorter.
    assert tries <= 3 + 3 + longest, "while the store is away one job at a time tries"
    wait_until(consumer.snapshot, lambda seen: seen.waiting_for is None)
    assert consumer.counts().failed == 0


def test_a_job_that_alone_meets_the_fault_holds_up_no_other(bench: Bench) -> None:
    bad = "only-me"

    def work(job: LeasedJob) -> None:
        if job.entry.cctv_id == bad:
            raise SwiftUnauthorizedError("this one's objects only")

    effects = Effects(work)
    bench.add(cctvId=bad)
    jobs = bench.add(5)
    bench.consumer(effects, max_concurrency=1, **QUICK)
    wait_until(lambda: set(jobs) <= set(bench.ended()))


def test_what_is_read_while_the_gate_closes_goes_back(bench: Bench) -> None:
    """A read is under way for the second slot when the first job meets the fault."""
    hold = Gate()
    back = threading.Event()

    def work(job: LeasedJob) -> None:
        if not back.is_set():
            hold(job)
            raise AWAY

    effects = Effects(work)
    consumer = bench.consumer(
        effects,
        max_concurrency=2,
        redis_block_ms=60_000,
        systemic_pause_seconds=4,
        systemic_pause_max_seconds=4,
    )
    first = bench.add()
    wait_until(lambda: len(effects.begun) == 1)
    hold.let_go()
    wait_until(lambda: consumer.snapshot().waiting_for)
    wait_until(lambda: consumer.snapshot().busy == 0)
    later = bench.add(2)
    back.set()
    assert len(effects.begun) == 1
    bench.wait_ended(first + later)
