"""What schedules fired, read from the database page by page."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from headrace_common.contracts.schedules import FiringState
from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.db import Firing, Schedule
from headrace_common.errors import BadRequestError
from headrace_dispatcher.scheduling.views import FiringPage, FiringView


@dataclass(frozen=True)
class FiringFilter:
    """Which firings are listed; what is empty is not asked for."""

    states: tuple[FiringState, ...] = ()
    target: str | None = None
    target_key: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what holds for those that are meant."""
        found: list[ColumnElement[bool]] = []
        if self.states:
            found.append(Firing.state.in_(self.states))
        if self.target is not None:
            found.append(Firing.target == self.target)
        if self.target_key is not None:
            found.append(Firing.target_key == self.target_key)
        return found


def of_schedule(
    session: Session,
    schedule: Schedule,
    wanted: FiringFilter,
    *,
    limit: int,
    cursor: str | None,
) -> FiringPage:
    """Return up to `limit` firings of a schedule, those of the latest times first.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    query = _query(wanted).where(Firing.schedule_id == schedule.id)
    if cursor is not None:
        fire_at, _ = read_cursor(cursor)
        query = query.where(Firing.fire_at < fire_at)
    return _page(session, query.order_by(Firing.fire_at.desc()), limit)


def of_all(session: Session, wanted: FiringFilter, *, limit: int, cursor: str | None) -> FiringPage:
    """Return up to `limit` firings of whatever schedule, those that were recorded last first.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    query = _query(wanted)
    if cursor is not None:
        _, firing_id = read_cursor(cursor)
        if not firing_id.isdecimal():
            raise BadRequestError("the cursor is not one that this API gave")
        query = query.where(Firing.id < int(firing_id))
    return _page(session, query.order_by(Firing.id.desc()), limit)


def _query(wanted: FiringFilter) -> Select[Firing, str]:
    return (
        select(Firing, Schedule.name)
        .join(Schedule, Schedule.id == Firing.schedule_id)
        .where(*wanted.conditions())
    )


def _page(session: Session, query: Select[Firing, str], limit: int) -> FiringPage:
    rows = session.execute(query.limit(limit + 1)).all()
    shown, more = rows[:limit], len(rows) > limit
    last = shown[-1][0] if shown else None
    return FiringPage(
        firings=[FiringView.of(firing, name) for firing, name in shown],
        next_cursor=make_cursor(last.fire_at, str(last.id)) if last and more else None,
    )
