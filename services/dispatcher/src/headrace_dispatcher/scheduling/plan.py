"""What a schedule's due times become: firings to put on their way, or skipped ones. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from headrace_common.contracts.schedules import (
    FiringOrigin,
    FiringState,
    MisfirePolicy,
    OverlapPolicy,
)
from headrace_common.db.models import Schedule
from headrace_dispatcher.scheduling.times import TICK, ticks_of
from headrace_dispatcher.scheduling.timing import Missed, Occurrence, Timing

#: Most firings that one plan has: one transaction records them.
MOST_FIRINGS: Final = 1_000
#: Reasons of firings that a plan skips.
REASON_MISFIRE: Final = "misfire"
REASON_MISFIRE_LIMIT: Final = "misfire_limit"
REASON_OVERLAP: Final = "overlap"


@dataclass(frozen=True)
class Policy:
    """What a schedule says about firings that are late, or come while the last one runs."""

    misfire: MisfirePolicy = MisfirePolicy.ONCE
    grace: timedelta = timedelta(seconds=60)
    misfire_limit: int = 100
    overlap: OverlapPolicy = OverlapPolicy.SKIP


@dataclass(frozen=True)
class PlannedFiring:
    """A firing that is to be recorded.

    Attributes:
        fire_at: its nominal time.
        due_at: the same with jitter.
        origin: `misfire` where it makes up for a missed one, else `schedule`.
        state: `pending` or `skipped`.
        reason: why it is skipped.
        missed: how many earlier ones it stands for besides itself.
    """

    fire_at: datetime
    due_at: datetime
    origin: FiringOrigin = FiringOrigin.SCHEDULE
    state: FiringState = FiringState.PENDING
    reason: str | None = None
    missed: int = 0


@dataclass(frozen=True)
class Plan:
    """Firings to record, in the order of their times, and what comes next: maybe due already."""

    firings: tuple[PlannedFiring, ...]
    next: Occurrence | None


def policy_of(schedule: Schedule) -> Policy:
    """Return the policy of a row."""
    return Policy(
        misfire=MisfirePolicy(schedule.misfire),
        grace=ticks_of(schedule.misfire_grace_seconds),
        misfire_limit=schedule.misfire_limit,
        overlap=OverlapPolicy(schedule.overlap),
    )


def plan_firings(
    timing: Timing,
    policy: Policy,
    *,
    next_fire_at: datetime,
    now: datetime,
    is_running: bool,
    at_most: int = MOST_FIRINGS,
) -> Plan:
    """Decide what becomes of all that is due.

    Args:
        timing: of the schedule.
        policy: of the schedule.
        next_fire_at: what its row says: the first that nothing was decided about.
        now: by the database's clock.
        is_running: its last firing that was not skipped is open.
        at_most: most firings to plan. What is left comes with the next plan, at once.
    """
    before = next_fire_at - TICK
    missed = _missed(timing, before, now - policy.grace, policy.misfire_limit)
    firings = _made_up(missed, policy)[:at_most]
    upcoming = timing.next_after(firings[-1].fire_at if firings else before)
    while upcoming is not None and upcoming.due_at <= now and len(firings) < at_most:
        firings.append(PlannedFiring(upcoming.fire_at, upcoming.due_at))
        upcoming = timing.next_after(upcoming.fire_at)
    if policy.overlap is OverlapPolicy.SKIP:
        firings = _without_overlaps(firings, is_running=is_running)
    return Plan(tuple(firings), upcoming)


def _missed(timing: Timing, after: datetime, before: datetime, limit: int) -> Missed:
    """Return those that came due before `before`, one more than `limit` of them at most."""
    found = timing.between(after, before, latest=limit + 2)
    # No jitter reaches the next occurrence, so only the very last may be due later than `before`.
    if found.latest and found.latest[-1].due_at >= before:
        return Missed(found.latest[:-1], found.count - 1)
    return Missed(found.latest[-(limit + 1) :], found.count)


def _made_up(missed: Missed, policy: Policy) -> list[PlannedFiring]:
    if not missed.count:
        return []
    if policy.misfire is MisfirePolicy.ALL:
        return _each(missed, policy.misfire_limit)
    last = missed.latest[-1]
    if policy.misfire is MisfirePolicy.ONCE:
        return [_misfire(last, missed=missed.count - 1)]
    return [_skipped(last, REASON_MISFIRE, missed=missed.count - 1)]


def _each(missed: Missed, limit: int) -> list[PlannedFiring]:
    """Fire the latest `limit`; the one before them is skipped, and stands for the rest."""
    left = missed.count - limit
    firings = [
        _misfire(occurrence) for occurrence in missed.latest[max(0, len(missed.latest) - limit) :]
    ]
    if left > 0:
        rest = missed.latest[-(limit + 1)]
        firings.insert(0, _skipped(rest, REASON_MISFIRE_LIMIT, missed=left - 1))
    return firings


def _misfire(occurrence: Occurrence, *, missed: int = 0) -> PlannedFiring:
    return PlannedFiring(
        occurrence.fire_at, occurrence.due_at, origin=FiringOrigin.MISFIRE, missed=missed
    )


def _skipped(occurrence: Occurrence, reason: str, *, missed: int) -> PlannedFiring:
    return PlannedFiring(
        occurrence.fire_at,
        occurrence.due_at,
        origin=FiringOrigin.MISFIRE,
        state=FiringState.SKIPPED,
        reason=reason,
        missed=missed,
    )


def _without_overlaps(firings: list[PlannedFiring], *, is_running: bool) -> list[PlannedFiring]:
    """Skip those that come while an earlier one runs; the first to fire is open from then on."""
    kept: list[PlannedFiring] = []
    for firing in firings:
        if firing.state is FiringState.PENDING and is_running:
            kept.append(replace(firing, state=FiringState.SKIPPED, reason=REASON_OVERLAP))
            continue
        is_running = is_running or firing.state is FiringState.PENDING
        kept.append(firing)
    return kept
