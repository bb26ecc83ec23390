"""Erlang's formula beside figures from the books, and what is made of it."""

from itertools import pairwise
from math import exp, inf

import pytest
from headrace_capacity.queueing import erlang_c, servers_for, wait_seconds


@pytest.mark.parametrize(
    ("servers", "erlangs", "waits"),
    [
        (1, 0.5, 0.5),  # of one server: the utilisation
        (2, 1.0, 1 / 3),  # by hand: a^2 / (2 + 2a + ... ) of M/M/2 at half load
        (5, 4.0, 0.5541),  # Kleinrock, and every table since
        (10, 10.0, 1.0),  # as much as there is
    ],
)
def test_share_that_waits(servers: int, erlangs: float, waits: float) -> None:
    assert erlang_c(servers, erlangs) == pytest.approx(waits, abs=1e-4)


def test_waits_of_one_server_are_those_of_the_books() -> None:
    # M/M/1 at half load, a second each: P(W > t) = rho exp(-(1 - rho) t / s).
    late = wait_seconds(1, 0.5, 1.0, quantile=0.99)
    assert 0.5 * exp(-0.5 * late) == pytest.approx(0.01)


def test_too_much_is_waited_for_without_end() -> None:
    assert wait_seconds(2, 3.0, 1.0, quantile=0.99) == inf


def test_many_servers_are_no_trouble() -> None:
    assert 0 < erlang_c(20_000, 19_900.0) < 1


def test_servers_stay_within_both_bounds_and_one_less_would_not() -> None:
    for per_second in (0.3, 1.0, 7.0, 40.0):
        found = servers_for(per_second, 0.5, utilisation=0.9, wait_p99_seconds=0.4)
        assert per_second * 0.5 / found <= 0.9
        assert wait_seconds(found, per_second, 0.5, quantile=0.99) <= 0.4
        fewer = found - 1
        assert (
            fewer == 0
            or per_second * 0.5 / fewer > 0.9
            or wait_seconds(fewer, per_second, 0.5, quantile=0.99) > 0.4
        )


def test_more_work_never_needs_fewer() -> None:
    counts = [
        servers_for(rate / 2, 0.3, utilisation=0.6, wait_p99_seconds=0.5) for rate in range(1, 60)
    ]
    assert all(less <= more for less, more in pairwise(counts))
