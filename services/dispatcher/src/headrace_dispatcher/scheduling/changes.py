"""Schedules are made, and say something else from now on."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from headrace_common.contracts.schedules import HOUSEKEEPING
from headrace_common.db import Schedule
from headrace_common.errors import ConflictError
from headrace_common.keys import Scope
from headrace_dispatcher.scheduling.deed import Deed
from headrace_dispatcher.scheduling.faults import Fault, InvalidFieldsError
from headrace_dispatcher.scheduling.firing import database_now
from headrace_dispatcher.scheduling.references import find_contract, find_target
from headrace_dispatcher.scheduling.requests import (
    OVERLAP_FAULT,
    NewSchedule,
    ScheduleBody,
    ScheduleChange,
    contradict,
)
from headrace_dispatcher.scheduling.retiming import (
    TIMING_FIELDS,
    Calendars,
    first_after,
    record_due,
    set_next,
    timing_with,
)
from headrace_dispatcher.scheduling.switching import switch
from headrace_dispatcher.scheduling.triggers import DelayTrigger, Trigger, resolved

#: What a body says that is stored as it is, but for the trigger.
_SAID: Final = frozenset(ScheduleBody.model_fields) - {"paused"}


class ScheduleExistsError(ConflictError):
    """There is a schedule of that name."""

    code = "schedule_exists"
    title = "Schedule exists"


class ScheduleChangedError(ConflictError):
    """Somebody else was quicker."""

    code = "schedule_changed"
    title = "Schedule was changed"


class Outcome(StrEnum):
    """What became of a schedule that was put there."""

    CREATED = "created"
    CHANGED = "changed"
    SAME = "same"


def create(deed: Deed, wish: NewSchedule) -> Schedule:
    """Make a schedule.

    Raises:
        InvalidFieldsError: it says what cannot be, or would never fire.
        ScheduleExistsError: its name is taken.
    """
    row = _insert(deed, wish.name, wish)
    if row is None:
        raise ScheduleExistsError(f"there is a schedule {wish.name!r}")
    return row


def put(deed: Deed, name: str, wish: ScheduleBody) -> tuple[Schedule, Outcome]:
    """Make a schedule, or have the one of that name say this and nothing else.

    Raises:
        InvalidFieldsError: it says what cannot be, or would never fire.
    """
    exists = deed.session.scalar(select(Schedule.id).where(Schedule.name == name))
    made = _insert(deed, name, wish) if exists is None else None
    if made is not None:
        return made, Outcome.CREATED
    schedule, calendars = deed.lock_with_calendars(name, wish.calendar)
    said = {field: getattr(wish, field) for field in _SAID}
    if _is_same_delay(wish.trigger, schedule.trigger):
        del said["trigger"]
    changed = _apply(deed, schedule, calendars, said)
    if wish.paused is not None and wish.paused != schedule.paused:
        switch(deed, schedule, calendars, paused=wish.paused, reason=None)
        changed = True
    return schedule, Outcome.CHANGED if changed else Outcome.SAME


def change(deed: Deed, name: str, wish: ScheduleChange) -> Schedule:
    """Change some of what a schedule says.

    Raises:
        NotFoundError: there is none of that name.
        InvalidFieldsError: it would say what cannot be, or never fire again.
        ScheduleChangedError: it is not the version that the caller saw.
    """
    schedule, calendars = deed.lock_with_calendars(name, wish.calendar)
    if wish.version is not None and wish.version != schedule.version:
        raise ScheduleChangedError(
            f"the schedule is at version {schedule.version}, not {wish.version}"
        )
    _apply(deed, schedule, calendars, wish.said())
    return schedule


def _insert(deed: Deed, name: str, wish: ScheduleBody) -> Schedule | None:
    """Insert a row; None where its name is taken."""
    if name.startswith(HOUSEKEEPING):
        raise InvalidFieldsError(Fault("name", f"must not begin with {HOUSEKEEPING!r}"))
    _check_target_allowed(deed, wish.target)
    target = find_target(deed.session, wish.target, wish.params)
    calendars = deed.calendars([wish.calendar], wanted=wish.calendar)
    now = database_now(deed.session)
    values = {field: _stored(getattr(wish, field)) for field in _SAID} | {
        "id": str(uuid4()),
        "name": name,
        "trigger": _stored(resolved(wish.trigger, now)),
        "params": target.params,
        "target_key": target.key,
        "paused": bool(wish.paused),
        "created_by": deed.actor,
        "changed_by": deed.actor,
        "created_at": now,
        "changed_at": now,
    }
    draft = Schedule(**values)
    _set_first(draft, calendars, now)
    row = deed.session.scalar(
        insert(Schedule)
        .values(**values, next_fire_at=draft.next_fire_at, next_due_at=draft.next_due_at)
        .on_conflict_do_nothing(index_elements=[Schedule.name])
        .returning(Schedule)
    )
    if row is not None:
        deed.note("create", row, target_name=row.target, params=row.params, trigger=row.trigger)
    return row


def _apply(deed: Deed, schedule: Schedule, calendars: Calendars, said: dict[str, Any]) -> bool:
    """Have a locked schedule say something; returns whether it said something else before.

    Args:
        deed: that it is part of.
        schedule: the row.
        calendars: that it has, and that it is to have.
        said: by the names of columns; the trigger is a model.
    """
    now = database_now(deed.session)
    values = _values(deed, schedule, said, now)
    changed = {name: value for name, value in values.items() if value != getattr(schedule, name)}
    if not changed:
        return False
    _check_policies(schedule, changed)
    is_retimed = bool(TIMING_FIELDS & changed.keys())
    if is_retimed and not schedule.paused:
        record_due(deed.session, schedule, timing_with(schedule, calendars), now)
    for name, value in changed.items():
        setattr(schedule, name, value)
    if is_retimed:
        _set_first(schedule, calendars, now)
    deed.mark_changed(schedule)
    told = {name: _told(value) for name, value in changed.items()}
    deed.note("change", schedule, version=schedule.version, changed=told)
    return True


def _values(deed: Deed, schedule: Schedule, said: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return what columns are to hold."""
    values = {name: _stored(value) for name, value in said.items()}
    if "trigger" in said:
        values["trigger"] = _stored(resolved(said["trigger"], now))
    name = values.get("target", schedule.target)
    params = values.get("params", schedule.params)
    if (name, params) == (schedule.target, schedule.params):
        return values
    if schedule.built_in:
        field = "target" if name != schedule.target else "params"
        raise InvalidFieldsError(Fault(field, "of a built-in schedule stays as it is"))
    _check_target_allowed(deed, name)
    target = find_target(deed.session, name, params)
    return {**values, "params": target.params, "target_key": target.key}


def _check_policies(schedule: Schedule, changed: dict[str, Any]) -> None:
    """Check that what a schedule is to say of misfires goes with what it says of overlaps."""
    if not {"misfire", "overlap"} & changed.keys():
        return
    misfire = changed.get("misfire", schedule.misfire)
    if contradict(misfire, changed.get("overlap", schedule.overlap)):
        raise InvalidFieldsError(Fault("overlap", OVERLAP_FAULT))


def _check_target_allowed(deed: Deed, name: str) -> None:
    if find_contract(name).is_housekeeping:
        deed.caller.require(Scope.ADMIN)


def _set_first(schedule: Schedule, calendars: Calendars, now: datetime) -> None:
    """Say when it fires next; a paused one does not, but it must have something to fire."""
    if schedule.start_at and schedule.end_at and schedule.end_at <= schedule.start_at:
        raise InvalidFieldsError(Fault("end_at", "must be later than start_at"))
    first = first_after(schedule, timing_with(schedule, calendars), now)
    set_next(schedule, None if schedule.paused else first)


def _is_same_delay(trigger: Trigger, kept: dict[str, Any]) -> bool:
    """Whether a delay is put there again, which does not begin anew by that."""
    return (
        isinstance(trigger, DelayTrigger)
        and trigger.at is None
        and (kept["type"], kept.get("seconds")) == (trigger.type, trigger.seconds)
    )


def _stored(value: Any) -> Any:
    """Return a value of a request as its column holds it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    return value.value if isinstance(value, StrEnum) else value


def _told(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
