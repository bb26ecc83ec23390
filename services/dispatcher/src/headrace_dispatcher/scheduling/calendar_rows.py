"""Calendars in the database, and what a change of one means for the schedules that name it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.db import Calendar, Schedule
from headrace_common.errors import ConflictError, NotFoundError
from headrace_dispatcher.scheduling.calendar_days import ExceptionDays
from headrace_dispatcher.scheduling.firing import database_now
from headrace_dispatcher.scheduling.retiming import record_due, set_next, timing_with
from headrace_dispatcher.scheduling.zones import is_zone

log = structlog.get_logger()

#: Schedules that are worked out anew at a time.
_CHUNK: Final = 1_000
#: A next firing that is farther off is worked out anew, instead of looking at each day until then.
_MANY_DAYS: Final = 400
_WRITE: Final = text("""
UPDATE schedules SET next_fire_at = new.next_fire_at, next_due_at = new.next_due_at,
    last_fire_at = new.last_fire_at
FROM unnest(CAST(:ids AS text[]), CAST(:fire_at AS timestamptz[]), CAST(:due_at AS timestamptz[]),
        CAST(:last AS timestamptz[])) AS new(id, next_fire_at, next_due_at, last_fire_at)
WHERE schedules.id = new.id
""")


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
    everywhere where one transaction locks several. Those that the change does not touch are the
    most, and no more than their next day is looked at.
    """
    moved, last = 0, ""
    while True:
        rows = session.execute(
            select(Schedule.id, Schedule.next_fire_at, Schedule.time_zone)
            .where(Schedule.calendar == name, ~Schedule.paused, Schedule.id > last)
            .order_by(Schedule.id)
            .limit(_CHUNK)
            .with_for_update()
        ).all()
        if not rows:
            return moved
        last, now = rows[-1].id, database_now(session)
        change = _Change(name, before, after, now)
        touched = [row.id for row in rows if change.may_move(row.next_fire_at, row.time_zone)]
        moved += _move(session, touched, change)


class _Change:
    """Other days of a calendar, and which next firings may be others by them."""

    def __init__(
        self, name: str, before: ExceptionDays, after: ExceptionDays, now: datetime
    ) -> None:
        self.name = name
        self.before = before
        self.after = after
        self.now = now
        self._known: dict[tuple[date, date], bool] = {}

    def may_move(self, next_fire_at: datetime | None, time_zone: str) -> bool:
        """Whether a schedule may fire at another time next: cheaper to say than at which."""
        if next_fire_at is None or next_fire_at <= self.now or not is_zone(time_zone):
            return True
        zone = ZoneInfo(time_zone)
        span = (self.now.astimezone(zone).date(), next_fire_at.astimezone(zone).date())
        if span not in self._known:
            self._known[span] = self._touches(*span)
        return self._known[span]

    def _touches(self, today: date, day: date) -> bool:
        days = (day - today).days
        if days > _MANY_DAYS or self.after.has(day):
            return True
        until = (today + timedelta(days=number) for number in range(days + 1))
        return any(self.before.has(found) and not self.after.has(found) for found in until)


def _move(session: Session, ids: Sequence[str], change: _Change) -> int:
    """Write when schedules fire next that are locked; returns how many fire at another time."""
    rows = session.scalars(
        select(Schedule).where(Schedule.id.in_(ids)).execution_options(populate_existing=True)
    ).all()
    columns: dict[str, list[Any]] = {"ids": [], "fire_at": [], "due_at": [], "last": []}
    for row in rows:
        # Written all at once, which is several times faster than row by row.
        session.expunge(row)
        seen = row.next_fire_at
        try:
            _work_out(session, row, change)
        except (ValueError, KeyError) as error:
            # The leader stops it when it is due; it keeps no other from being moved.
            log.warning("calendars.row_not_read", schedule=row.name, error=str(error)[:500])
            continue
        if row.next_fire_at != seen:
            columns["ids"].append(row.id)
            columns["fire_at"].append(row.next_fire_at)
            columns["due_at"].append(row.next_due_at)
            columns["last"].append(row.last_fire_at)
    session.execute(_WRITE, columns)
    return len(columns["ids"])


def _work_out(session: Session, schedule: Schedule, change: _Change) -> None:
    """Say when a schedule fires next, once what was due by the days before is recorded."""
    timing = timing_with(schedule, {change.name: change.before})
    record_due(session, schedule, timing, change.now)
    timing = replace(timing, exceptions=change.after)
    set_next(schedule, timing.next_after(change.now))
