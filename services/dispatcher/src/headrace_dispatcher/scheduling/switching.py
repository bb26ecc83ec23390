"""Schedules are paused and go on, fire because somebody asks for it, and are removed."""

from typing import Any

from sqlalchemy.dialects.postgresql import insert

from headrace_common.contracts.schedules import FiringOrigin, FiringState, OverlapPolicy
from headrace_common.db import Firing, Schedule
from headrace_common.errors import ConflictError
from headrace_common.telemetry import current_trace
from headrace_dispatcher.scheduling.deed import Deed
from headrace_dispatcher.scheduling.firing import database_now
from headrace_dispatcher.scheduling.plan import REASON_OVERLAP
from headrace_dispatcher.scheduling.retiming import (
    Calendars,
    count_firings,
    current_epoch,
    is_running,
    set_next,
    skip_due,
    timing_with,
)


class ScheduleBuiltInError(ConflictError):
    """The product needs it."""

    code = "schedule_built_in"
    title = "Schedule is built in"


def set_paused(deed: Deed, name: str, *, paused: bool, reason: str | None) -> Schedule:
    """Pause a schedule or let it go on; what is said again changes at most the reason.

    Raises:
        NotFoundError: there is none of that name.
    """
    schedule, calendars = deed.lock_with_calendars(name)
    is_told_why = paused and reason not in {None, schedule.paused_reason}
    if paused != schedule.paused or is_told_why:
        switch(deed, schedule, calendars, paused=paused, reason=reason)
    return schedule


def switch(
    deed: Deed,
    schedule: Schedule,
    calendars: Calendars,
    *,
    paused: bool,
    reason: str | None,
) -> None:
    """Pause a locked schedule or let it go on from now, whatever came due meanwhile."""
    now = database_now(deed.session)
    timing = timing_with(schedule, calendars)
    if paused:
        skip_due(deed.session, schedule, timing, now)
    set_next(schedule, None if paused else timing.next_after(now))
    schedule.paused, schedule.paused_reason = paused, reason
    deed.mark_changed(schedule)
    deed.note("pause" if paused else "resume", schedule, reason=reason)


def run_now(deed: Deed, name: str) -> tuple[Schedule, Firing]:
    """Fire a schedule, also one that is paused or finished; what it does next stays as it is.

    Raises:
        NotFoundError: there is none of that name.
    """
    schedule = deed.lock(name)
    values = {
        "schedule_id": schedule.id,
        "origin": FiringOrigin.MANUAL,
        "epoch": current_epoch(deed.session),
        "target": schedule.target,
        "target_key": schedule.target_key,
        "params": schedule.params,
        "overlap": schedule.overlap,
        "trace": current_trace(),
        "state": FiringState.PENDING,
    }
    if schedule.overlap == OverlapPolicy.SKIP and is_running(deed.session, schedule.id):
        values |= {"state": FiringState.SKIPPED, "reason": REASON_OVERLAP}
    firing = _insert_firing(deed, values)
    count_firings(deed.session, [firing])
    deed.note("run", schedule, firing_id=firing.id, state=firing.state)
    return schedule, firing


def remove(deed: Deed, name: str) -> None:
    """Remove a schedule with its history. What it has begun goes on.

    Raises:
        NotFoundError: there is none of that name.
        ScheduleBuiltInError: the product needs it.
    """
    schedule = deed.lock(name)
    if schedule.built_in:
        raise ScheduleBuiltInError(
            f"{schedule.name!r} is house-keeping that the product needs; it can be paused"
        )
    deed.note("delete", schedule, target_name=schedule.target)
    deed.session.delete(schedule)


def _insert_firing(deed: Deed, values: dict[str, Any]) -> Firing:
    """Insert a firing of this moment; a little later where one has this nominal time."""
    is_final = FiringState(values["state"]).is_final
    while True:
        now = database_now(deed.session)
        inserted: Firing | None = deed.session.scalar(
            insert(Firing)
            .values(
                **values,
                fire_at=now,
                due_at=now,
                fired_at=now,
                finished_at=now if is_final else None,
            )
            .on_conflict_do_nothing(index_elements=[Firing.schedule_id, Firing.fire_at])
            .returning(Firing)
        )
        if inserted is not None:
            return inserted
