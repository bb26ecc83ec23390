"""Circuit breakers: when they open, who may try, and what ends the wait."""

import pytest
from prometheus_client import REGISTRY

from headrace_common.circuit import CircuitBreaker, CircuitOpenError, CircuitPolicy, CircuitState


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    policy = CircuitPolicy(failures=3, first_seconds=2, most_seconds=10)
    return CircuitBreaker("sqs", policy, clock=clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed("away")


def test_it_opens_after_failures_in_a_row_only(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.view().state is CircuitState.CLOSED
    assert breaker.allow()
    breaker.failed("away")
    assert breaker.view().state is CircuitState.OPEN
    assert not breaker.allow()
    assert breaker.seconds_left == 2


def test_one_call_tries_after_the_pause_and_decides(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 2
    assert breaker.allow()
    assert breaker.view().state is CircuitState.HALF_OPEN
    assert not breaker.allow(), "only one tries"
    breaker.succeeded()
    assert breaker.view().state is CircuitState.CLOSED
    assert breaker.allow()
    assert breaker.allow()


def test_each_failed_try_doubles_the_pause_up_to_the_longest(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, 3)
    pauses = []
    for _ in range(4):
        clock.now += breaker.seconds_left
        assert breaker.allow()
        breaker.failed("still away")
        pauses.append(breaker.seconds_left)
    assert pauses == [4, 8, 10, 10]


def test_calls_that_were_under_way_do_not_lengthen_the_pause(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 1
    fail(breaker, 20)
    assert breaker.seconds_left == 1


def test_retry_after_opens_at_once_and_is_bounded(breaker: CircuitBreaker) -> None:
    breaker.failed("throttled", retry_after=7)
    assert breaker.seconds_left == 7
    other = CircuitBreaker("s3", CircuitPolicy(failures=3, most_seconds=10))
    other.failed("throttled", retry_after=1e9)
    assert 9 < other.seconds_left <= 10


def test_a_try_that_never_ends_is_forgotten(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 2
    assert breaker.allow()
    clock.now += 61
    assert breaker.allow(), "its process may have died"


def test_a_call_that_was_not_made_leaves_its_turn(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 2
    assert breaker.allow()
    breaker.leave()
    assert breaker.view().state is CircuitState.OPEN
    assert REGISTRY.get_sample_value("headrace_circuit_open", {"dependency": "sqs"}) == 1
    assert breaker.allow()


def test_the_metric_says_nothing_of_what_nobody_has_tried_for_long(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    def shown() -> float | None:
        return REGISTRY.get_sample_value("headrace_circuit_open", {"dependency": "sqs"})

    fail(breaker, 3)
    clock.now += 2 + 299
    assert shown() == 1
    assert breaker.allow()
    assert shown() == 0.5
    clock.now += 61
    assert shown() == 1, "that try was forgotten, and others may follow"
    clock.now += 240
    assert shown() == 0
    assert breaker.view().state is CircuitState.OPEN
    assert breaker.allow()
    breaker.failed("away")
    assert shown() == 1


def test_while_it_is_open_a_call_is_refused_with_the_time_to_come_back(
    breaker: CircuitBreaker,
) -> None:
    breaker.check()
    fail(breaker, 3)
    with pytest.raises(CircuitOpenError) as refused:
        breaker.check()
    assert refused.value.status == 503
    assert refused.value.retry_after == 2
    view = breaker.view()
    assert (view.state, view.reason, view.failures) == (CircuitState.OPEN, "away", 3)
