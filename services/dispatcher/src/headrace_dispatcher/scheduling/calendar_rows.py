"""Calendars in the database, and what a change of one means for the schedules that name it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.db import Calendar, Schedule
from headrace_common.errors import ConflictError, NotFoundError
from headrace_dispatcher.scheduling.calendar_days import ExceptionDays
from headrace_dispatcher.scheduling.firing import database_now
from headrace_dispatcher.scheduling.retiming import record_due, set_next, timing_with

#: Schedules that are worked out anew at a time.
_CHUNK: Final = 1_000
#: A next firing that is farther off is worked out anew, instead of looking at each day until then.
_MANY_DAYS: Final = 400


class CalendarExistsError(ConflictError):
    """There is a calendar of that name."""

    code = "calendar_exists"
    title = "Calendar exists"


class CalendarInUseError(ConflictError):
    """Schedules name it."""

    code = "calendar_in_use"
    title = "Calendar is in use"


def find(session: Session, name: str, *, lock: bool = False) -> Calendar:
    """Return a calendar, with its row locked where it is to be changed.

    Raises:
        NotFoundError: there is none of that name.
    """
    query = select(Calendar).where(Calendar.name == name)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalar(query)
    if row is None:
        raise NotFoundError(f"no calendar {name[:100]!r}")
    return row


def users(session: Session, name: str | None = None) -> dict[str, int]:
    """Count the schedules that name each calendar, or this one."""
    query = select(Schedule.calendar, func.count()).where(Schedule.calendar.is_not(None))
    if name is not None:
        query = query.where(Schedule.calendar == name)
    rows = session.execute(query.group_by(Schedule.calendar))
    return {str(calendar): count for calendar, count in rows}


def insert_calendar(session: Session, values: Mapping[str, Any], *, actor: str) -> Calendar | None:
    """Make a calendar; None where its name is taken."""
    row = session.scalar(
        insert(Calendar)
        .values(**values, changed_by=actor)
        .on_conflict_do_nothing(index_elements=[Calendar.name])
        .returning(Calendar)
    )
    if row is not None:
        audit.record(
            session,
            actor=actor,
            action="calendar.create",
            target=row.name,
            exceptions=row.exceptions,
        )
    return row


def change_calendar(
    session: Session,
    calendar: Calendar,
    *,
    description: str | None,
    exceptions: Sequence[Any],
    actor: str,
) -> None:
    """Have a locked calendar say something else, and its schedules go by it at once."""
    before = ExceptionDays.read(calendar.exceptions)
    if (calendar.description, calendar.exceptions) == (description, list(exceptions)):
        return
    calendar.description, calendar.exceptions = description, list(exceptions)
    calendar.changed_by, calendar.changed_at = actor, func.clock_timestamp()
    session.flush()
    session.refresh(calendar)
    moved = _retime(session, calendar.name, before, ExceptionDays.read(exceptions))
    audit.record(
        session,
        actor=actor,
        action="calendar.change",
        target=calendar.name,
        exceptions=calendar.exceptions,
        moved=moved,
    )


def remove_calendar(session: Session, name: str, *, actor: str) -> None:
    """Remove a calendar that no schedule names.

    Raises:
        NotFoundError: there is none of that name.
        CalendarInUseError: some do.
    """
    calendar = find(session, name, lock=True)
    named_by = users(session, name).get(name, 0)
    if named_by:
        raise CalendarInUseError(f"{named_by} schedules name the calendar {name!r}")
    session.delete(calendar)
    audit.record(session, actor=actor, action="calendar.delete", target=name)


def _retime(session: Session, name: str, before: ExceptionDays, after: ExceptionDays) -> int:
    """Work out anew when the schedules of a calendar fire next; returns how many it moved.

    The leader passes over the rows that are locked here. They are locked by their ids' order, like
    everywhere where one transaction locks several.
    """
    moved, last = 0, ""
    while rows := session.scalars(
        select(Schedule)
        .where(Schedule.calendar == name, ~Schedule.paused, Schedule.id > last)
        .order_by(Schedule.id)
        .limit(_CHUNK)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all():
        last = rows[-1].id
        now = database_now(session)
        moved += sum(_move(session, row, before, after, now) for row in rows)
        session.flush()
        for row in rows:
            session.expunge(row)
    return moved


def _move(
    session: Session,
    schedule: Schedule,
    before: ExceptionDays,
    after: ExceptionDays,
    now: datetime,
) -> bool:
    if not _may_move(schedule, before, after, now):
        return False
    name = str(schedule.calendar)
    seen = schedule.next_fire_at
    record_due(session, schedule, timing_with(schedule, {name: before}), now)
    set_next(schedule, timing_with(schedule, {name: after}).next_after(now))
    return schedule.next_fire_at != seen


def _may_move(
    schedule: Schedule, before: ExceptionDays, after: ExceptionDays, now: datetime
) -> bool:
    """Whether the next firing may be another by other days: cheaper to say than which."""
    if schedule.next_fire_at is None or schedule.next_fire_at <= now:
        return True
    zone = ZoneInfo(schedule.time_zone)
    today = now.astimezone(zone).date()
    day = schedule.next_fire_at.astimezone(UTC).astimezone(zone).date()
    days = (day - today).days
    if days > _MANY_DAYS or after.has(day):
        return True
    until = (today + timedelta(days=number) for number in range(days + 1))
    return any(before.has(found) and not after.has(found) for found in until)
