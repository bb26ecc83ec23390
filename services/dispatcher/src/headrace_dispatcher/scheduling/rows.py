"""Schedules and their firings, read from the database."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from headrace_common.db import Calendar, Firing, Schedule
from headrace_common.errors import BadRequestError, NotFoundError
from headrace_dispatcher.scheduling.faults import Fault, InvalidFieldsError
from headrace_dispatcher.scheduling.firing import database_now
from headrace_dispatcher.scheduling.requests import NAME_PATTERN, PreviewWish
from headrace_dispatcher.scheduling.retiming import Calendars, begin_of, calendars_of, timing_with
from headrace_dispatcher.scheduling.times import TICK
from headrace_dispatcher.scheduling.timing import Occurrence, make_timing
from headrace_dispatcher.scheduling.triggers import resolved
from headrace_dispatcher.scheduling.views import (
    FiringView,
    NextFiring,
    Preview,
    ScheduleDetail,
    ScheduleList,
    ScheduleView,
)

log = structlog.get_logger()

#: Firings that are shown with a schedule.
_LAST_FIRINGS: Final = 10
_NAME: Final = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class ScheduleFilter:
    """Which schedules are listed; what is None is not asked for."""

    target: str | None = None
    target_key: str | None = None
    calendar: str | None = None
    paused: bool | None = None
    built_in: bool | None = None
    prefix: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what holds for those that are meant."""
        wanted: list[tuple[InstrumentedAttribute[Any], object]] = [
            (Schedule.target, self.target),
            (Schedule.target_key, self.target_key),
            (Schedule.calendar, self.calendar),
            (Schedule.paused, self.paused),
            (Schedule.built_in, self.built_in),
        ]
        found = [column == value for column, value in wanted if value is not None]
        if self.prefix is not None:
            # The first says from where on the index is read: nothing sorts before its prefix.
            found += [Schedule.name >= self.prefix, func.starts_with(Schedule.name, self.prefix)]
        return found


def find(session: Session, name: str) -> Schedule:
    """Return a schedule.

    Raises:
        NotFoundError: there is none of that name.
    """
    row = None
    if _NAME.fullmatch(name):
        row = session.scalar(select(Schedule).where(Schedule.name == name))
    if row is None:
        raise no_such(name)
    return row


def no_such(name: str) -> NotFoundError:
    """Return the error of a name that no schedule has."""
    return NotFoundError(f"no schedule {name[:100]!r}")


def page(
    session: Session, wanted: ScheduleFilter, *, limit: int, cursor: str | None, firings: int
) -> ScheduleList:
    """Return up to `limit` schedules by their names, each with its next so many firings.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    query = select(Schedule).where(*wanted.conditions()).order_by(Schedule.name)
    if cursor is not None:
        query = query.where(Schedule.name > _read_cursor(cursor))
    rows = session.scalars(query.limit(limit + 1)).all()
    shown, more = rows[:limit], len(rows) > limit
    calendars, now = calendars_of(session, shown), database_now(session)
    return ScheduleList(
        schedules=[
            ScheduleView.of(row, next_firings(row, calendars, now, count=firings)) for row in shown
        ],
        next_cursor=_make_cursor(shown[-1].name) if more else None,
    )


def show(session: Session, schedule: Schedule, *, firings: int) -> ScheduleView:
    """Show a schedule with its next so many firings."""
    calendars, now = calendars_of(session, [schedule]), database_now(session)
    return ScheduleView.of(schedule, next_firings(schedule, calendars, now, count=firings))


def show_detail(session: Session, schedule: Schedule, *, firings: int) -> ScheduleDetail:
    """Show a schedule with what comes next, and with what it did last."""
    last = session.scalars(
        select(Firing)
        .where(Firing.schedule_id == schedule.id)
        .order_by(Firing.fire_at.desc())
        .limit(_LAST_FIRINGS)
    )
    calendars, now = calendars_of(session, [schedule]), database_now(session)
    return ScheduleDetail.of(
        schedule,
        next_firings(schedule, calendars, now, count=firings),
        last_firings=[FiringView.of(row, schedule.name) for row in last],
    )


def preview(session: Session, wish: PreviewWish) -> Preview:
    """Say when a schedule would fire that says this.

    Raises:
        InvalidFieldsError: there is no such calendar.
    """
    calendar = session.get(Calendar, wish.calendar) if wish.calendar is not None else None
    if wish.calendar is not None and calendar is None:
        raise InvalidFieldsError(Fault("calendar", f"there is no calendar {wish.calendar!r}"))
    now = database_now(session)
    timing = make_timing(
        resolved(wish.trigger, now),
        key="",
        made_at=now,
        time_zone=wish.time_zone,
        start_at=wish.start_at,
        end_at=wish.end_at,
        exceptions=calendar.exceptions if calendar is not None else (),
    )
    # A time that is asked for is one that can be told.
    after = begin_of(wish.trigger, now) if wish.after is None else wish.after - TICK
    zone = ZoneInfo(wish.time_zone)
    return Preview(
        time_zone=wish.time_zone,
        next_firings=[
            NextFiring.of(found, zone, stored=False) for found in timing.preview(after, wish.count)
        ],
    )


def next_firings(
    schedule: Schedule, calendars: Calendars, now: datetime, *, count: int
) -> list[Occurrence]:
    """Return the firings that are to come, as the row and its timing have them.

    The first is what the row says, though its time may be past: then it is about to be fired. What
    was missed besides is not told, since that is a question of the schedule's misfire policy.
    """
    if schedule.next_fire_at is None or schedule.next_due_at is None or not count:
        return []
    first = Occurrence(schedule.next_fire_at, schedule.next_due_at)
    try:
        timing = timing_with(schedule, calendars)
        return [first, *timing.preview(max(now, first.fire_at), count - 1)]
    except (ValueError, KeyError) as error:
        # A row of a later version, or one that makes no sense and that its leader is about to
        # stop: the others of a list are told all the same.
        log.warning("schedules.row_not_read", schedule=schedule.name, error=str(error)[:500])
        return [first]


def _make_cursor(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _read_cursor(cursor: str) -> str:
    try:
        name = base64.urlsafe_b64decode(cursor.encode()).decode()
    except (ValueError, binascii.Error):
        name = ""
    if not _NAME.fullmatch(name):
        raise BadRequestError("the cursor is not one that this API gave")
    return name
