"""What becomes of due times: misfires, overlaps, and that each is accounted for once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_common.contracts.schedules import (
    FiringOrigin,
    FiringState,
    MisfirePolicy,
    OverlapPolicy,
)
from headrace_common.db.models import Schedule
from headrace_dispatcher.scheduling.plan import (
    Plan,
    PlannedFiring,
    Policy,
    plan_firings,
    policy_of,
)
from headrace_dispatcher.scheduling.times import TICK
from headrace_dispatcher.scheduling.timing import Timing, make_timing
from headrace_dispatcher.scheduling.triggers import AtTrigger, CronTrigger, IntervalTrigger

START = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ALLOW = OverlapPolicy.ALLOW
PENDING, SKIPPED = FiringState.PENDING, FiringState.SKIPPED
MISFIRE, SCHEDULE = FiringOrigin.MISFIRE, FiringOrigin.SCHEDULE


def every(seconds: float, **told: Any) -> Timing:
    trigger = IntervalTrigger(seconds=seconds, anchor=START)
    return make_timing(trigger, key="a-schedule", made_at=START, **told)


def plan(timing: Timing, seconds: float, *, is_running: bool = False, **policy: Any) -> Plan:
    """Plan what is due so many seconds after the first firing."""
    return plan_firings(
        timing,
        Policy(**policy),
        next_fire_at=START,
        now=START + seconds * SECOND,
        is_running=is_running,
    )


def told(planned: Plan) -> list[tuple[float, FiringOrigin, FiringState, str | None, int]]:
    return [
        ((it.fire_at - START).total_seconds(), it.origin, it.state, it.reason, it.missed)
        for it in planned.firings
    ]


def next_second(planned: Plan) -> float | None:
    return None if planned.next is None else (planned.next.fire_at - START).total_seconds()


def test_nothing_is_planned_before_its_time() -> None:
    planned = plan(every(10), -0.000001)
    assert told(planned) == []
    assert next_second(planned) == 0


def test_what_is_within_the_grace_is_fired_each() -> None:
    planned = plan(every(10), 25, overlap=ALLOW)
    assert told(planned) == [(at, SCHEDULE, PENDING, None, 0) for at in (0, 10, 20)]
    assert next_second(planned) == 30
    # Exactly at the end of the grace is within it.
    assert [it[1] for it in told(plan(every(100), 60, overlap=ALLOW))] == [SCHEDULE]
    assert [it[1] for it in told(plan(every(100), 60.000001, overlap=ALLOW))] == [MISFIRE]


def test_once_makes_up_for_all_by_the_latest() -> None:
    planned = plan(every(10), 125, overlap=ALLOW)
    assert told(planned) == [
        (60, MISFIRE, PENDING, None, 6),
        *[(at, SCHEDULE, PENDING, None, 0) for at in (70, 80, 90, 100, 110, 120)],
    ]
    assert next_second(planned) == 130


def test_all_makes_up_for_the_latest_so_many() -> None:
    policy: dict[str, Any] = {"misfire": MisfirePolicy.ALL, "overlap": ALLOW, "grace": 10 * SECOND}
    planned = plan(every(10), 65, misfire_limit=3, **policy)
    assert told(planned) == [
        (20, MISFIRE, SKIPPED, "misfire_limit", 2),
        *[(at, MISFIRE, PENDING, None, 0) for at in (30, 40, 50)],
        (60, SCHEDULE, PENDING, None, 0),
    ]
    enough = plan(every(10), 65, misfire_limit=6, **policy)
    assert [it[:4] for it in told(enough)] == [
        *[(at, MISFIRE, PENDING, None) for at in (0, 10, 20, 30, 40, 50)],
        (60, SCHEDULE, PENDING, None),
    ]


def test_skip_leaves_a_record_of_what_was_missed() -> None:
    planned = plan(every(10), 75, misfire=MisfirePolicy.SKIP, overlap=ALLOW, grace=5 * SECOND)
    assert told(planned) == [
        (60, MISFIRE, SKIPPED, "misfire", 6),
        (70, SCHEDULE, PENDING, None, 0),
    ]


@pytest.mark.parametrize("policy", MisfirePolicy)
def test_the_last_of_a_schedule_leaves_nothing(policy: MisfirePolicy) -> None:
    at = make_timing(AtTrigger(at=START), key="a-schedule", made_at=START)
    planned = plan(at, 3600, misfire=policy)
    state = SKIPPED if policy is MisfirePolicy.SKIP else PENDING
    assert [it[:3] for it in told(planned)] == [(0, MISFIRE, state)]
    assert planned.next is None


def test_a_firing_that_overlaps_is_skipped() -> None:
    assert told(plan(every(10), 25)) == [
        (0, SCHEDULE, PENDING, None, 0),
        (10, SCHEDULE, SKIPPED, "overlap", 0),
        (20, SCHEDULE, SKIPPED, "overlap", 0),
    ]
    assert [it[3] for it in told(plan(every(10), 15, is_running=True))] == ["overlap"] * 2
    cancels = plan(every(10), 15, is_running=True, overlap=OverlapPolicy.CANCEL)
    assert [it[2] for it in told(cancels)] == [PENDING] * 2


def test_what_was_skipped_as_missed_does_not_overlap() -> None:
    planned = plan(every(10), 75, misfire=MisfirePolicy.SKIP, grace=5 * SECOND)
    assert [it[2:4] for it in told(planned)] == [(SKIPPED, "misfire"), (PENDING, None)]
    # What a firing stands for it stands for even if it is skipped.
    skipped = plan(every(10), 65, is_running=True, grace=5 * SECOND)
    assert told(skipped) == [
        (50, MISFIRE, SKIPPED, "overlap", 5),
        (60, SCHEDULE, SKIPPED, "overlap", 0),
    ]


def test_jitter_makes_nothing_late() -> None:
    jittered = every(10, jitter_seconds=9)
    [first, *_] = jittered.preview(START - TICK, 1)
    assert first.due_at > START
    early = plan_firings(
        jittered, Policy(), next_fire_at=START, now=first.due_at - TICK, is_running=False
    )
    assert early == Plan((), first)
    grace = 60 * SECOND
    planned = plan_firings(
        jittered,
        Policy(grace=grace),
        next_fire_at=START,
        now=first.due_at + grace,
        is_running=False,
    )
    assert [planned.firings[0].origin, planned.firings[0].due_at] == [SCHEDULE, first.due_at]


def test_a_long_outage_is_one_transaction() -> None:
    days = 30 * 86_400
    planned = plan(every(1), days, misfire=MisfirePolicy.ALL, misfire_limit=1_000, overlap=ALLOW)
    assert len(planned.firings) == 1_000
    assert planned.firings[0].missed == days - 60 - 1_000 - 1
    assert planned.next is not None
    assert planned.next.due_at < START + days * SECOND


def test_a_row_says_its_policy() -> None:
    row = Schedule(misfire="all", misfire_grace_seconds=1.5, misfire_limit=7, overlap="cancel")
    assert policy_of(row) == Policy(
        MisfirePolicy.ALL, timedelta(seconds=1.5), 7, OverlapPolicy.CANCEL
    )


timings = st.one_of(
    st.builds(every, st.sampled_from([1, 7.5, 60]), jitter_seconds=st.sampled_from([0, 5])),
    st.builds(
        lambda expression: make_timing(
            CronTrigger(expression=expression), key="a-schedule", made_at=START
        ),
        st.sampled_from(["* * * * *", "*/20 * * * * *", "5 * * * *"]),
    ),
)
policies = st.builds(
    Policy,
    misfire=st.sampled_from(MisfirePolicy),
    grace=st.integers(1, 90).map(lambda seconds: seconds * SECOND),
    misfire_limit=st.integers(1, 30),
    overlap=st.sampled_from(OverlapPolicy),
)


@given(
    timings,
    policies,
    st.lists(st.tuples(st.integers(0, 400_000_000), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 20),
)
@settings(max_examples=150, deadline=None)
def test_every_due_time_is_accounted_for_once(
    timing: Timing, policy: Policy, steps: list[tuple[int, bool]], at_most: int
) -> None:
    recorded: list[PlannedFiring] = []
    now, upcoming = START, timing.next_after(START - TICK)
    assert upcoming is not None
    for ticks, is_running in steps:
        now += ticks * TICK
        while upcoming.due_at <= now:
            planned = plan_firings(
                timing,
                policy,
                next_fire_at=upcoming.fire_at,
                now=now,
                is_running=is_running,
                at_most=at_most,
            )
            assert 0 < len(planned.firings) <= at_most
            recorded += planned.firings
            assert planned.next is not None
            upcoming = planned.next

    times = [it.fire_at for it in recorded]
    assert times == sorted(set(times))
    due = timing.between(START - TICK, upcoming.fire_at - TICK, latest=0).count
    assert sum(1 + it.missed for it in recorded) == due
    if policy.overlap is not OverlapPolicy.SKIP and policy.misfire is not MisfirePolicy.SKIP:
        assert all(it.state is PENDING or it.reason == "misfire_limit" for it in recorded)
