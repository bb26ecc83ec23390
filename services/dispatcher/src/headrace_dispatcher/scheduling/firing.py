"""Recording what is due: one transaction for many schedules, and for all that follows from it.

The row of a firing is unique by schedule and nominal time, and stands in the same transaction as
the schedule's next time: however often and by whomever it is tried, there is one.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common.contracts.schedules import FiringOrigin, FiringState, OverlapPolicy
from headrace_common.db import Calendar, Firing, Schedule
from headrace_common.telemetry import continue_trace, current_trace
from headrace_common.telemetry.trace import own_attributes
from headrace_dispatcher.scheduling.metrics import BROKEN, DRIFT, FIRINGS, MISFIRES
from headrace_dispatcher.scheduling.plan import Plan, PlannedFiring, plan_firings, policy_of
from headrace_dispatcher.scheduling.timing import timing_of

log = structlog.get_logger()

#: Most schedules whose rows one transaction holds locked.
_MOST_SCHEDULES: Final = 500
#: Most firings that one transaction records, but for those of the last schedule.
_MOST_FIRINGS: Final = 1_000
#: Longest that one transaction reckons when schedules fire next, in seconds, but for the last one.
#: An expression of cron takes milliseconds after an outage, and a leader that is silent for its
#: lease is none any more: the next would begin with the same ones, and come no further.
_MOST_SECONDS: Final = 0.5
#: Longest reason that is kept.
_MAX_REASON: Final = 500

_NOW: Final = text("SELECT clock_timestamp()")
_RUNNING: Final = text("""
SELECT DISTINCT schedule_id FROM firings
WHERE finished_at IS NULL AND schedule_id = ANY(:ids)
""")
# Guarded by what it was: whoever changed the schedule meanwhile has decided about its next time.
_ADVANCE: Final = text("""
UPDATE schedules SET next_fire_at = new.next_fire_at, next_due_at = new.next_due_at,
    last_fire_at = coalesce(new.last_fire_at, schedules.last_fire_at)
FROM unnest(CAST(:ids AS text[]), CAST(:was AS timestamptz[]), CAST(:fire_at AS timestamptz[]),
        CAST(:due_at AS timestamptz[]), CAST(:last AS timestamptz[]))
    AS new(id, was, next_fire_at, next_due_at, last_fire_at)
WHERE schedules.id = new.id AND schedules.next_fire_at = new.was
""")
_STOP: Final = text("""
UPDATE schedules SET paused = true, paused_reason = :reason, next_fire_at = NULL,
    next_due_at = NULL, version = version + 1, changed_by = 'scheduler',
    changed_at = clock_timestamp()
WHERE id = :id
""")


@dataclass
class Fired:
    """What one transaction recorded.

    Attributes:
        now: the database's time that it went by.
        upcoming: when the schedules come due next that were dealt with, by their ids.
        recorded: origin, state and drift in seconds of each new row.
        missed: times that came too late, by policy.
        more: there may be more that is due by now.
    """

    now: datetime
    upcoming: dict[str, datetime] = field(default_factory=dict)
    recorded: list[tuple[FiringOrigin, FiringState, float]] = field(default_factory=list)
    missed: dict[str, int] = field(default_factory=dict)
    more: bool = False

    @property
    def has_pending(self) -> bool:
        """Whether there is something to send."""
        return any(state is FiringState.PENDING for _, state, _ in self.recorded)

    def measure(self) -> None:
        """Count it, once it is committed."""
        for origin, state, drift in self.recorded:
            FIRINGS.labels(origin=origin, state=state).inc()
            if origin is FiringOrigin.SCHEDULE:
                DRIFT.observe(max(drift, 0.0))
        for policy, count in self.missed.items():
            MISFIRES.labels(policy=policy).inc(count)


def database_now(session: Session) -> datetime:
    """Return what the database's clock shows."""
    now: datetime = session.execute(_NOW).scalar_one()
    return now


def fire_due(session: Session, *, epoch: int, most_schedules: int = _MOST_SCHEDULES) -> Fired:
    """Record all that is due, the longest overdue first; a part of it where it is a lot.

    Args:
        session: of a transaction of the leader.
        epoch: of its term.
        most_schedules: rows to lock at most. Rows that another has locked are left for later.
    """
    now = database_now(session)
    fired = Fired(now)
    schedules = session.scalars(
        select(Schedule)
        .where(Schedule.next_due_at <= now, ~Schedule.paused)
        .order_by(Schedule.next_due_at, Schedule.id)
        .limit(most_schedules)
        .with_for_update(skip_locked=True)
    ).all()
    if not schedules:
        return fired
    fired.more = len(schedules) == most_schedules
    plans = _plans(session, schedules, fired)
    _record(session, plans, fired, epoch=epoch)
    _advance(session, plans, fired)
    return fired


def _plans(
    session: Session, schedules: Sequence[Schedule], fired: Fired
) -> list[tuple[Schedule, Plan]]:
    calendars = _calendars(session, schedules)
    running = _running(session, schedules)
    plans: list[tuple[Schedule, Plan]] = []
    left, until = _MOST_FIRINGS, time.monotonic() + _MOST_SECONDS
    for number, schedule in enumerate(schedules):
        if left <= 0 or (number and time.monotonic() > until):
            fired.more = True
            break
        plan = _plan(session, schedule, calendars, running, fired.now, at_most=left)
        if plan is not None:
            plans.append((schedule, plan))
            left -= len(plan.firings)
    return plans


def _plan(
    session: Session,
    schedule: Schedule,
    calendars: Mapping[str, Calendar],
    running: frozenset[str],
    now: datetime,
    *,
    at_most: int,
) -> Plan | None:
    """Plan for one schedule; one that cannot be read is stopped, and holds up no other."""
    try:
        return plan_firings(
            timing_of(schedule, calendars.get(schedule.calendar or "")),
            policy_of(schedule),
            next_fire_at=_nominal(schedule),
            now=now,
            is_running=schedule.id in running,
            at_most=at_most,
        )
    except Exception as error:
        # Whatever it is: the reckoning is pure, and the same row would fail the same way again.
        log.exception("scheduler.schedule_broken", schedule=schedule.name)
        BROKEN.inc()
        reason = f"its row makes no sense: {error}"[:_MAX_REASON]
        session.execute(_STOP, {"id": schedule.id, "reason": reason})
        return None


def _nominal(schedule: Schedule) -> datetime:
    if schedule.next_fire_at is None:
        raise ValueError("it has a due time, and no nominal one")
    return schedule.next_fire_at


def _calendars(session: Session, schedules: Sequence[Schedule]) -> dict[str, Calendar]:
    names = {schedule.calendar for schedule in schedules if schedule.calendar is not None}
    if not names:
        return {}
    rows = session.scalars(select(Calendar).where(Calendar.name.in_(names)))
    return {calendar.name: calendar for calendar in rows}


def _running(session: Session, schedules: Sequence[Schedule]) -> frozenset[str]:
    """Return the ids of those that do not fire while something of theirs runs, and it does."""
    ids = [schedule.id for schedule in schedules if schedule.overlap == OverlapPolicy.SKIP]
    return frozenset(session.scalars(_RUNNING, {"ids": ids})) if ids else frozenset()


def _record(
    session: Session, plans: Sequence[tuple[Schedule, Plan]], fired: Fired, *, epoch: int
) -> None:
    rows = [
        _row(schedule, planned, epoch=epoch, now=fired.now)
        for schedule, plan in plans
        for planned in plan.firings
    ]
    if not rows:
        return
    statement = (
        insert(Firing)
        .on_conflict_do_nothing(index_elements=[Firing.schedule_id, Firing.fire_at])
        .returning(Firing.origin, Firing.state, Firing.fired_at, Firing.due_at)
    )
    for row in session.execute(statement, rows):
        drift = (row.fired_at - row.due_at) / timedelta(seconds=1)
        fired.recorded.append((FiringOrigin(row.origin), FiringState(row.state), drift))
    for schedule, plan in plans:
        missed = sum(
            planned.missed + 1 for planned in plan.firings if planned.origin is FiringOrigin.MISFIRE
        )
        if missed:
            fired.missed[schedule.misfire] = fired.missed.get(schedule.misfire, 0) + missed


def _row(
    schedule: Schedule, planned: PlannedFiring, *, epoch: int, now: datetime
) -> dict[str, Any]:
    with continue_trace(
        {},
        f"fire {schedule.target}",
        kind=SpanKind.PRODUCER,
        attributes=own_attributes({"schedule": schedule.name, "origin": planned.origin.value}),
    ):
        trace = current_trace()
    return {
        "schedule_id": schedule.id,
        "fire_at": planned.fire_at,
        "due_at": planned.due_at,
        "origin": planned.origin,
        "epoch": epoch,
        "target": schedule.target,
        "target_key": schedule.target_key,
        "params": schedule.params,
        "overlap": schedule.overlap,
        "state": planned.state,
        "reason": planned.reason,
        "missed": planned.missed,
        "trace": trace,
        "finished_at": now if planned.state.is_final else None,
    }


def _advance(session: Session, plans: Sequence[tuple[Schedule, Plan]], fired: Fired) -> None:
    columns: dict[str, list[Any]] = {
        "ids": [schedule.id for schedule, _ in plans],
        "was": [schedule.next_fire_at for schedule, _ in plans],
        "fire_at": [plan.next and plan.next.fire_at for _, plan in plans],
        "due_at": [plan.next and plan.next.due_at for _, plan in plans],
        "last": [plan.firings[-1].fire_at if plan.firings else None for _, plan in plans],
    }
    session.execute(_ADVANCE, columns)
    for schedule, plan in plans:
        if plan.next is None:
            continue
        if plan.next.due_at <= fired.now:
            fired.more = True
        fired.upcoming[schedule.id] = plan.next.due_at
