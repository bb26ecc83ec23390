"""When a schedule fires next, worked out anew: it is made, changed, resumed, or its calendar is.

All of it in the transaction that makes the change, with the schedule's row locked and the time
taken from the database after that. What had come to its time under the old timing and nobody had
fired yet is recorded first, so that a change loses nothing; the new timing begins behind the
present instant, so that it fires nothing twice.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import event, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common.contracts.schedules import FiringOrigin, FiringState
from headrace_common.db import Calendar, Firing, Schedule, SchedulerLeader
from headrace_common.errors import UnavailableError
from headrace_dispatcher.scheduling.calendar_days import NO_EXCEPTIONS, ExceptionDays
from headrace_dispatcher.scheduling.faults import Fault, InvalidFieldsError
from headrace_dispatcher.scheduling.metrics import FIRINGS
from headrace_dispatcher.scheduling.plan import PlannedFiring, plan_firings, policy_of
from headrace_dispatcher.scheduling.times import TICK
from headrace_dispatcher.scheduling.timing import Occurrence, Timing, timing_of
from headrace_dispatcher.scheduling.triggers import TRIGGERS, AtTrigger, DelayTrigger, Trigger

#: Days of calendars, by name.
Calendars = Mapping[str, ExceptionDays]
#: Columns that decide when a schedule fires; a change of others leaves its next firing alone.
TIMING_FIELDS: Final = frozenset(
    {"trigger", "time_zone", "start_at", "end_at", "jitter_seconds", "calendar"}
)
#: Plans of a thousand firings that a change makes up for; who is further behind is caught up first.
_MOST_PLANS: Final = 10
#: Reason of a firing that was due when its schedule was paused.
REASON_PAUSED: Final = "paused"


def lock_calendars(session: Session, names: Collection[str | None]) -> Calendars:
    """Return those of these calendars that there are, and keep others from changing them.

    Before the lock of a schedule, never after it: who changes a calendar goes that way.
    """
    wanted = {name for name in names if name is not None}
    if not wanted:
        return {}
    rows = session.scalars(
        select(Calendar)
        .where(Calendar.name.in_(wanted))
        .order_by(Calendar.name)
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
    return {row.name: ExceptionDays.read(row.exceptions) for row in rows}


def calendars_of(session: Session, schedules: Iterable[Schedule]) -> Calendars:
    """Return the calendars of schedules, to be read only."""
    wanted = {row.calendar for row in schedules if row.calendar is not None}
    if not wanted:
        return {}
    rows = session.scalars(select(Calendar).where(Calendar.name.in_(wanted)))
    return {row.name: ExceptionDays.read(row.exceptions) for row in rows}


def begin_of(trigger: Trigger, now: datetime) -> datetime:
    """Return what the first firing is later than; a delay of nothing is due at once."""
    return now - TICK if isinstance(trigger, DelayTrigger) else now


def first_after(schedule: Schedule, timing: Timing, now: datetime) -> Occurrence:
    """Return the next firing of a schedule that is made or changed.

    Raises:
        InvalidFieldsError: there would be none, ever.
    """
    found = timing.next_after(begin_of(TRIGGERS.validate_python(schedule.trigger), now))
    if found is None:
        raise InvalidFieldsError(_why_never(schedule, timing, now))
    return found


def record_due(session: Session, schedule: Schedule, timing: Timing, now: datetime) -> None:
    """Record what has come to its time and nobody has fired yet, as the leader would.

    Jitter that is left is forgone: what is recorded is put on its way at once.

    Args:
        session: of the transaction that holds the lock of the row.
        schedule: the row, before it is changed.
        timing: of the row as it is.
        now: by the database's clock.

    Raises:
        UnavailableError: it is so far behind that its leader should catch up first.
    """
    due_at_once = replace(timing, jitter=timedelta(0))
    for _ in range(_MOST_PLANS):
        if schedule.next_fire_at is None or schedule.next_fire_at > now:
            return
        plan = plan_firings(
            due_at_once,
            policy_of(schedule),
            next_fire_at=schedule.next_fire_at,
            now=now,
            is_running=is_running(session, schedule.id),
        )
        _record(session, schedule, plan.firings, now)
        set_next(schedule, plan.next)
        if plan.firings:
            schedule.last_fire_at = plan.firings[-1].fire_at
    raise UnavailableError("the schedule is far behind; change it once it has caught up")


def skip_due(session: Session, schedule: Schedule, timing: Timing, now: datetime) -> None:
    """Record as skipped what has come to its time when a schedule is paused."""
    if schedule.next_fire_at is None or schedule.next_fire_at > now:
        return
    due = timing.between(schedule.next_fire_at - TICK, now, latest=1)
    for last in due.latest:
        skipped = PlannedFiring(
            last.fire_at,
            last.due_at,
            origin=FiringOrigin.MISFIRE,
            state=FiringState.SKIPPED,
            reason=REASON_PAUSED,
            missed=due.count - 1,
        )
        _record(session, schedule, [skipped], now)
        schedule.last_fire_at = last.fire_at


def set_next(schedule: Schedule, occurrence: Occurrence | None) -> None:
    """Say when a schedule fires next; None where it does not."""
    schedule.next_fire_at = occurrence.fire_at if occurrence else None
    schedule.next_due_at = occurrence.due_at if occurrence else None


def timing_with(schedule: Schedule, calendars: Calendars) -> Timing:
    """Return the timing of a row, whose calendar is among `calendars`: read once for many rows."""
    days = calendars[schedule.calendar] if schedule.calendar is not None else NO_EXCEPTIONS
    return replace(timing_of(schedule, None), exceptions=days)


def is_running(session: Session, schedule_id: str) -> bool:
    """Whether anything that a schedule fired is open."""
    is_open = (Firing.schedule_id == schedule_id, Firing.finished_at.is_(None))
    return session.scalar(select(exists().where(*is_open))) or False


def current_epoch(session: Session) -> int:
    """Return the term that it is; 0 before the first."""
    return session.scalar(select(SchedulerLeader.epoch)) or 0


def count_firings(session: Session, recorded: Iterable[Firing | PlannedFiring]) -> None:
    """Measure firings, once they are committed."""

    def count(_session: Session) -> None:
        for origin, state in found:
            FIRINGS.labels(origin=origin, state=state).inc()

    found = [(firing.origin, firing.state) for firing in recorded]
    event.listen(session, "after_commit", count, once=True)


def _record(
    session: Session, schedule: Schedule, planned: Collection[PlannedFiring], now: datetime
) -> None:
    if not planned:
        return
    epoch = current_epoch(session)
    count_firings(session, planned)
    session.execute(
        insert(Firing).on_conflict_do_nothing(index_elements=["schedule_id", "fire_at"]),
        [
            {
                "schedule_id": schedule.id,
                "fire_at": firing.fire_at,
                "due_at": firing.due_at,
                "origin": firing.origin,
                "epoch": epoch,
                "target": schedule.target,
                "target_key": schedule.target_key,
                "params": schedule.params,
                "overlap": schedule.overlap,
                "state": firing.state,
                "reason": firing.reason,
                "missed": firing.missed,
                "finished_at": now if firing.state.is_final else None,
            }
            for firing in planned
        ],
    )


def _why_never(schedule: Schedule, timing: Timing, now: datetime) -> Fault:
    """Tell which field is at fault where a schedule has nothing to fire."""
    trigger = TRIGGERS.validate_python(schedule.trigger)
    if isinstance(trigger, AtTrigger) and trigger.at <= now:
        return Fault("trigger.at", "lies in the past")
    if schedule.end_at is not None and schedule.end_at <= now:
        return Fault("end_at", "lies in the past")
    if replace(timing, end_at=None).next_after(now) is not None:
        return Fault("end_at", "nothing is fired until then")
    open_every_day = replace(timing, exceptions=NO_EXCEPTIONS)
    if schedule.calendar is not None and open_every_day.next_after(now) is not None:
        return Fault("calendar", "nothing is fired but on its days")
    if schedule.start_at is not None and replace(timing, start_at=None).next_after(now) is not None:
        return Fault("start_at", "nothing is fired from then on")
    return Fault("trigger", "never fires")
