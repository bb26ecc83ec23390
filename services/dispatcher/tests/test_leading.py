"""The leader's work: what is due fires once, on time, and its message is sent once."""

from itertools import pairwise

from scheduling_bench import SchedulingBench, bench

from headrace_local.waiting import wait_until

__all__ = ["bench"]


def test_what_is_due_fires_once_and_on_time(bench: SchedulingBench) -> None:
    schedule_id = bench.schedule(due_in=1.5)
    for _ in range(3):
        bench.scheduler()
    bench.leader()
    firings = wait_until(lambda: bench.firings(schedule_id), lambda found: len(found) >= 3)
    gaps = {(b.fire_at - a.fire_at).total_seconds() for a, b in pairwise(firings)}
    assert gaps == {1.0}
    assert all(0 <= (f.fired_at - f.due_at).total_seconds() < 0.5 for f in firings)
    wait_until(lambda: bench.firings(schedule_id)[0].state, lambda state: state == "sent")
    assert set(bench.messages().values()) == {1}
