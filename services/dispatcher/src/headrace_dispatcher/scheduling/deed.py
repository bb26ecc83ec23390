"""One transaction in which a caller does something to a schedule."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.contracts.schedules import HOUSEKEEPING
from headrace_common.db import Schedule
from headrace_common.errors import UnavailableError
from headrace_common.keys import Principal, Scope
from headrace_dispatcher.scheduling import rows
from headrace_dispatcher.scheduling.faults import Fault, InvalidFieldsError
from headrace_dispatcher.scheduling.retiming import Calendars, lock_calendars

#: Times that the calendar of a schedule may change under our hands before we give up.
_TRIES: Final = 3


@dataclass(frozen=True)
class Deed:
    """What `caller` does in the transaction of `session`."""

    session: Session
    caller: Principal

    @property
    def actor(self) -> str:
        """How the audit trail names the caller."""
        return audit.actor_of(self.caller)

    def lock(self, name: str) -> Schedule:
        """Lock a schedule.

        Raises:
            NotFoundError: there is none of that name.
            ForbiddenError: it is house-keeping, and the caller no operator.
        """
        return self._locked(rows.find(self.session, name).id, name)

    def lock_with_calendars(
        self, name: str, calendar: str | None = None
    ) -> tuple[Schedule, Calendars]:
        """Lock a schedule, and before it the calendar that it has and the one it is to have.

        Raises:
            NotFoundError, ForbiddenError: as `lock`.
            InvalidFieldsError: there is no such calendar.
        """
        for _ in range(_TRIES):
            seen = rows.find(self.session, name)
            calendars = self.calendars([calendar, seen.calendar], wanted=calendar)
            schedule = self._locked(seen.id, name)
            if schedule.calendar is None or schedule.calendar in calendars:
                return schedule, calendars
        raise UnavailableError("the schedule is being changed by somebody else; try again")

    def calendars(self, names: list[str | None], *, wanted: str | None) -> Calendars:
        """Lock calendars against changes.

        Raises:
            InvalidFieldsError: the one that is wanted does not exist.
        """
        found = lock_calendars(self.session, names)
        if wanted is not None and wanted not in found:
            raise InvalidFieldsError(Fault("calendar", f"there is no calendar {wanted!r}"))
        return found

    def mark_changed(self, schedule: Schedule) -> None:
        """Count a change, say who made it, and write it."""
        schedule.version += 1
        schedule.changed_by = self.actor
        schedule.changed_at = func.clock_timestamp()
        self.session.flush()
        self.session.refresh(schedule)

    def note(self, verb: str, schedule: Schedule, **details: Any) -> None:
        """Note it in the audit trail."""
        audit.record(
            self.session,
            actor=self.actor,
            action=f"schedule.{verb}",
            target=schedule.name,
            **details,
        )

    def _locked(self, schedule_id: str, name: str) -> Schedule:
        row = self.session.scalar(
            select(Schedule)
            .where(Schedule.id == schedule_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        if row is None:
            raise rows.no_such(name)
        if row.built_in or row.target.startswith(HOUSEKEEPING):
            self.caller.require(Scope.ADMIN)
        return row
