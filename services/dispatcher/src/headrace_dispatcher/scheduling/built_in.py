"""The schedules that the product itself needs, and how they get into the table.

They are rows like others: an operator may give them another trigger or policy, and pause them. What
the software set last is kept in `defaults`, so that a new default reaches those fields that nobody
changed, and no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common.contracts.schedules import (
    ABORT_UPLOADS,
    EXPIRE_RESULTS,
    PURGE_JOBS,
    RECOVER_CAMERA_JOBS,
    RECOVER_JOBS,
    SEARCH_STORAGE,
    TIDY_RECORDS,
    TRIM_STREAMS,
    MisfirePolicy,
    OverlapPolicy,
    TargetContract,
)
from headrace_common.db import Calendar, Schedule
from headrace_dispatcher.chores.settings import HouseKeepingSettings
from headrace_dispatcher.scheduling.timing import timing_of
from headrace_dispatcher.scheduling.triggers import IntervalTrigger

log = structlog.get_logger()

#: Name space of their ids.
_IDS: Final = UUID("0f7f6e0a-6a1e-5d0c-9a55-3c7d0a4f5e21")
#: Who makes and changes them, where no operator does.
_ACTOR: Final = "headrace"
#: What comes later than that, because no process led, is left out: the next does the same.
_LEAST_GRACE_SECONDS: Final = 5.0
_MOST_GRACE_SECONDS: Final = 60.0
#: Those that come as seldom as this or more seldom do not all come at once.
_SELDOM_SECONDS: Final = 300.0
_JITTER_SECONDS: Final = 30.0


@dataclass(frozen=True)
class BuiltIn:
    """A schedule of house-keeping, as the software wants it."""

    contract: TargetContract
    every_seconds: float

    @property
    def name(self) -> str:
        """What it is called, like its target."""
        return self.contract.name

    def fields(self) -> dict[str, Any]:
        """Return the columns that an operator may change, with their defaults."""
        grace = min(max(self.every_seconds, _LEAST_GRACE_SECONDS), _MOST_GRACE_SECONDS)
        trigger = IntervalTrigger(seconds=self.every_seconds)
        return {
            "description": self.contract.summary,
            "trigger": trigger.model_dump(mode="json", exclude_none=True),
            "time_zone": "UTC",
            "start_at": None,
            "end_at": None,
            "jitter_seconds": _JITTER_SECONDS if self.every_seconds >= _SELDOM_SECONDS else 0.0,
            "calendar": None,
            "misfire": MisfirePolicy.SKIP.value,
            "misfire_grace_seconds": grace,
            "overlap": OverlapPolicy.SKIP.value,
        }


def built_in_schedules(settings: HouseKeepingSettings) -> tuple[BuiltIn, ...]:
    """Return the built-in schedules."""
    return (
        BuiltIn(RECOVER_JOBS, settings.sweep_interval_seconds),
        BuiltIn(RECOVER_CAMERA_JOBS, settings.cctv_sweep_seconds),
        BuiltIn(ABORT_UPLOADS, settings.storage_sweep_seconds),
        BuiltIn(SEARCH_STORAGE, settings.storage_scan_seconds),
        BuiltIn(TRIM_STREAMS, settings.stream_trim_seconds),
        BuiltIn(PURGE_JOBS, settings.job_purge_seconds),
        BuiltIn(EXPIRE_RESULTS, settings.result_expiry_seconds),
        BuiltIn(TIDY_RECORDS, settings.records_tidy_seconds),
    )


def seed_built_in(session: Session, wanted: Sequence[BuiltIn]) -> list[str]:
    """Make the built-in schedules that are missing, and bring the defaults of others up to date.

    Args:
        session: of a transaction of the caller's. Any number of processes may do it at once.
        wanted: all that there are.

    Returns:
        The names of those that were made or changed.
    """
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    names = [each.name for each in wanted]
    missing = [_row(each, now) for each in wanted]
    made = session.scalars(
        insert(Schedule).values(missing).on_conflict_do_nothing().returning(Schedule.name)
    ).all()
    rows = session.scalars(
        select(Schedule).where(Schedule.name.in_(names)).order_by(Schedule.id).with_for_update()
    )
    by_name = {row.name: row for row in rows}
    changed = [
        each.name
        for each in wanted
        if each.name not in made and _updated(session, by_name.get(each.name), each, now)
    ]
    if made or changed:
        log.info("schedules.built_in", made=sorted(made), changed=changed)
    return [*made, *changed]


def _row(each: BuiltIn, now: datetime) -> dict[str, Any]:
    fields = each.fields()
    row = Schedule(
        id=str(uuid5(_IDS, each.name)),
        name=each.name,
        target=each.contract.name,
        target_key=each.contract.name,
        params={},
        built_in=True,
        defaults=fields,
        created_by=_ACTOR,
        changed_by=_ACTOR,
        created_at=now,
        changed_at=now,
        **fields,
    )
    _set_next(row, None, now)
    columns = {column.key for column in Schedule.__table__.columns}
    return {name: value for name, value in vars(row).items() if name in columns}


def _updated(session: Session, row: Schedule | None, each: BuiltIn, now: datetime) -> bool:
    """Set the defaults that are new, where a field still has the old one."""
    if row is None or not row.built_in:
        log.error("schedules.built_in_name_taken", name=each.name)
        return False
    fields, before = each.fields(), row.defaults or {}
    if fields == before:
        return False
    news = {
        name: value
        for name, value in fields.items()
        if value != before.get(name) and _stored(getattr(row, name)) == before.get(name)
    }
    for name, value in news.items():
        setattr(row, name, value)
    row.defaults = fields
    if news:
        row.version, row.changed_by, row.changed_at = row.version + 1, _ACTOR, now
        if not row.paused:
            calendar = session.get(Calendar, row.calendar) if row.calendar is not None else None
            _set_next(row, calendar, now)
    session.flush()
    return bool(news)


def _set_next(row: Schedule, calendar: Calendar | None, now: datetime) -> None:
    following = timing_of(row, calendar).next_after(now)
    row.next_fire_at = following.fire_at if following else None
    row.next_due_at = following.due_at if following else None


def _stored(value: Any) -> Any:
    """Return a column's value as `defaults` has it."""
    return value.isoformat() if isinstance(value, datetime) else value
