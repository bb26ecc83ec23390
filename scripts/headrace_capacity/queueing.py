"""How many servers keep a wait short: the M/M/c queue.

Arrivals at random, `c` servers, service times exponential: the wait of a job is longer than t with
the probability C(c, a) exp(-(c - a) t / s), where s is the mean service time, a = arrival rate x s
the offered load in Erlang, and C Erlang's formula of the second kind (Erlang 1917; Kleinrock,
Queueing Systems I, 1975, section 3.5). Service times here vary less than exponential ones, so
that real waits are shorter.
"""

from math import ceil, log, sqrt
from typing import Final

#: At this beta one job in a thousand million waits.
_NOBODY_WAITS: Final = 6.0


def erlang_c(servers: int, erlangs: float) -> float:
    """Return the probability that a job has to wait.

    Computed by the recurrence of Erlang's first formula, B(n) = a B(n-1) / (n + a B(n-1)), which
    does not overflow. It takes as many steps as there are servers, which many need not: by Halfin
    and Whitt (Heavy-Traffic Limits for Queues with Many Exponential Servers, Operations Research
    29, 1981) the probability falls with beta = (1 - a / c) sqrt(c) as the normal density does.
    """
    if erlangs >= servers:
        return 1.0
    if (1 - erlangs / servers) * sqrt(servers) > _NOBODY_WAITS:
        return 0.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = erlangs * blocked / (number + erlangs * blocked)
    return servers * blocked / (servers - erlangs * (1 - blocked))


def wait_seconds(
    servers: int, per_second: float, service_seconds: float, *, quantile: float
) -> float:
    """Return the wait that so many of all jobs do not exceed; infinite where it never ends."""
    erlangs = per_second * service_seconds
    if erlangs >= servers:
        return float("inf")
    late = erlang_c(servers, erlangs)
    if late <= 1 - quantile:
        return 0.0
    return log(late / (1 - quantile)) * service_seconds / (servers - erlangs)


def servers_for(
    per_second: float,
    service_seconds: float,
    *,
    utilisation: float,
    wait_p99_seconds: float,
) -> int:
    """Return the least number of servers within a utilisation and a wait of 99 in 100 jobs."""
    servers = max(1, ceil(per_second * service_seconds / utilisation - 1e-9))
    while wait_seconds(servers, per_second, service_seconds, quantile=0.99) > wait_p99_seconds:
        servers += 1
    return servers
