"""Calendars over HTTP: days on which the schedules that name them do not fire."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.audit import actor_of
from headrace_common.db import Calendar, Database
from headrace_common.errors import NotFoundError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_dispatcher.scheduling import calendar_rows
from headrace_dispatcher.scheduling.calendar_days import EXCEPTIONS, MOST_EXCEPTIONS, DayException
from headrace_dispatcher.scheduling.calendar_rows import CalendarExistsError, CalendarInUseError
from headrace_dispatcher.scheduling.faults import FieldRoute, faults_below
from headrace_dispatcher.scheduling.requests import Name, Text

_EXAMPLE: Final[list[JsonValue]] = [
    "2026-12-24",
    "12-25",
    {"from": "2026-12-28", "to": "2027-01-06"},
]
Days = Annotated[
    list[DayException],
    Field(
        max_length=MOST_EXCEPTIONS,
        description="Days in the time zone of the schedule: YYYY-MM-DD, MM-DD of every year, or "
        "{from, to}, both included",
        examples=[_EXAMPLE],
    ),
]


class CalendarBody(BaseModel):
    """What a calendar says, but for its name."""

    model_config = ConfigDict(extra="forbid")

    description: Text | None = None
    exceptions: Days = []


class NewCalendar(CalendarBody):
    """A calendar to be made."""

    name: Name = Field(examples=["holidays"])


class CalendarChange(BaseModel):
    """What changes of a calendar: what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    description: Text | None = None
    exceptions: Days | None = Field(default=None, description="These and no others")
    add: Days = Field(default=[], description="Besides those that it has")
    remove: Days = Field(default=[], description="Written as it has them")


class CalendarView(BaseModel):
    """A calendar."""

    name: str = Field(examples=["holidays"])
    description: str | None
    exceptions: list[JsonValue] = Field(examples=[_EXAMPLE])
    schedules: int = Field(description="That name it")
    changed_by: str = Field(description="Id of the API key")
    changed_at: datetime

    @classmethod
    def of(cls, calendar: Calendar, schedules: int) -> "CalendarView":
        """Show a calendar that so many schedules name."""
        return cls(
            name=calendar.name,
            description=calendar.description,
            exceptions=calendar.exceptions,
            schedules=schedules,
            changed_by=calendar.changed_by,
            changed_at=calendar.changed_at,
        )


class CalendarList(BaseModel):
    """Every calendar, by name."""

    calendars: list[CalendarView]


CalendarName = Annotated[Name, Path(description="Of the calendar")]
Reader = Depends(requires(Scope.JOBS_READ))
Writer = Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))]


def calendars_router(database: Database) -> APIRouter:
    """Make the routes on the calendars in `database`."""
    router = APIRouter(prefix="/calendars", tags=["calendars"], route_class=FieldRoute)
    _add_reading(router, database)
    _add_changes(router, database)
    return router


def _add_reading(router: APIRouter, database: Database) -> None:
    @router.get("", dependencies=[Reader], responses=responses())
    def list_calendars() -> CalendarList:
        """List the calendars, and how many schedules name each."""
        with database.begin() as session:
            users = calendar_rows.users(session)
            rows = session.scalars(select(Calendar).order_by(Calendar.name))
            return CalendarList(
                calendars=[CalendarView.of(row, users.get(row.name, 0)) for row in rows]
            )

    @router.get("/{name}", dependencies=[Reader], responses=responses(NotFoundError))
    def read_calendar(name: CalendarName) -> CalendarView:
        """Show a calendar."""
        with database.begin() as session:
            return _show(session, calendar_rows.find(session, name))


def _add_changes(router: APIRouter, database: Database) -> None:
    @router.post("", status_code=201, responses=responses(CalendarExistsError))
    def create_calendar(wish: NewCalendar, caller: Writer) -> CalendarView:
        """Make a calendar."""
        with database.begin() as session:
            made = _insert(session, wish.name, wish, caller)
            if made is None:
                raise CalendarExistsError(f"there is a calendar {wish.name!r}")
            return CalendarView.of(made, 0)

    @router.put("/{name}", responses=responses() | {201: {"model": CalendarView}})
    def put_calendar(
        name: CalendarName, wish: CalendarBody, caller: Writer, response: Response
    ) -> CalendarView:
        """Make a calendar, or have the one of that name say this; answers 201 where it made one.

        Schedules that name it go by it at once; what was due before is fired.
        """
        with database.begin() as session:
            made = _insert(session, name, wish, caller)
            if made is not None:
                response.status_code = 201
                return CalendarView.of(made, 0)
            calendar = calendar_rows.find(session, name, lock=True)
            _change(session, calendar, wish.description, _stored(wish.exceptions), caller)
            return _show(session, calendar)

    @router.patch("/{name}", responses=responses(NotFoundError))
    def change_calendar(name: CalendarName, wish: CalendarChange, caller: Writer) -> CalendarView:
        """Change a calendar, add days to it or remove some; schedules go by it at once."""
        with database.begin() as session:
            calendar = calendar_rows.find(session, name, lock=True)
            said = "description" in wish.model_fields_set
            description = wish.description if said else calendar.description
            _change(session, calendar, description, _changed(calendar, wish), caller)
            return _show(session, calendar)

    @router.delete(
        "/{name}", status_code=204, responses=responses(NotFoundError, CalendarInUseError)
    )
    def delete_calendar(name: CalendarName, caller: Writer) -> None:
        """Remove a calendar that no schedule names."""
        with database.begin() as session:
            calendar_rows.remove_calendar(session, name, actor=actor_of(caller))


def _insert(session: Session, name: str, wish: CalendarBody, caller: Principal) -> Calendar | None:
    values = {
        "name": name,
        "description": wish.description,
        "exceptions": _stored(wish.exceptions),
    }
    return calendar_rows.insert_calendar(session, values, actor=actor_of(caller))


def _change(
    session: Session,
    calendar: Calendar,
    description: str | None,
    exceptions: list[Any],
    caller: Principal,
) -> None:
    calendar_rows.change_calendar(
        session,
        calendar,
        description=description,
        exceptions=exceptions,
        actor=actor_of(caller),
    )


def _changed(calendar: Calendar, wish: CalendarChange) -> list[Any]:
    """Return the days that a calendar has after a change.

    Raises:
        InvalidFieldsError: there would be too many.
    """
    removed = _stored(wish.remove)
    days = calendar.exceptions if wish.exceptions is None else _stored(wish.exceptions)
    kept = [day for day in days if day not in removed]
    kept += [day for day in _stored(wish.add) if day not in kept]
    with faults_below("add"):
        return _stored(EXCEPTIONS.validate_python(kept))


def _stored(days: list[DayException]) -> list[Any]:
    """Return days as a row keeps them."""
    stored: list[Any] = EXCEPTIONS.dump_python(days, mode="json", by_alias=True)
    return stored


def _show(session: Session, calendar: Calendar) -> CalendarView:
    users = calendar_rows.users(session, calendar.name)
    return CalendarView.of(calendar, users.get(calendar.name, 0))
