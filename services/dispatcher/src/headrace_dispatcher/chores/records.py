"""Records that outlived their retention: removed in small batches, each a transaction of its own.

What is removed here is history; nothing that is open, undecided or still to be done is among it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import ColumnElement, delete, exists, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.db import (
    AuditEntry,
    Database,
    DeadLetter,
    Firing,
    IdempotencyKey,
    InboxReport,
    Job,
    Schedule,
    TransportOutcome,
)
from headrace_common.shifts import Shift
from headrace_dispatcher.dead.letter import SETTLED
from headrace_dispatcher.rollout.outcomes import KEPT as OUTCOMES_KEPT

#: Rows that are removed, or looked through, in one transaction.
_BATCH: Final = 1_000
#: Firings of house-keeping are many, and tell little after that.
BUILT_IN_KEPT: Final = timedelta(days=1)
#: A claim of a key by a process that crashed ran out long before.
_CLAIM_KEPT: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long records are kept after their end.

    Attributes:
        audit: entries of the audit trail.
        firings: of schedules other than built-in ones.
        letters: that were decided about.
        keys: of idempotent requests.
        reports: on jobs that are gone.
    """

    audit: timedelta
    firings: timedelta
    letters: timedelta
    keys: timedelta
    reports: timedelta


class Records:
    """Removes them. Any number of processes may at once."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Remove from `database` what is older than that."""
        self._database = database
        self._retention = retention

    def tidy(self, shift: Shift) -> dict[str, JsonValue]:
        """Remove what is due, and return how many of each kind were."""
        done: dict[str, JsonValue] = {
            name: self._remove(remove, shift) for name, remove in self._removals().items()
        }
        return {
            **done,
            "built_in_firings": self._built_in_firings(shift),
            "reports": self._reports_of_nobody(shift),
        }

    def _removals(self) -> dict[str, Callable[[Session], int]]:
        keep, now = self._retention, func.clock_timestamp()
        return {
            "audit_entries": _oldest(
                AuditEntry.id, AuditEntry.at, AuditEntry.at < now - keep.audit
            ),
            "firings": _oldest(
                Firing.id, Firing.finished_at, Firing.finished_at < now - keep.firings
            ),
            "dead_letters": _oldest(
                DeadLetter.id,
                DeadLetter.state_at,
                DeadLetter.state.in_(SETTLED),
                DeadLetter.state_at < now - keep.letters,
                ~DeadLetter.at_source,
            ),
            "idempotency_keys": _oldest(
                (IdempotencyKey.scope, IdempotencyKey.key),
                IdempotencyKey.created_at,
                IdempotencyKey.created_at < now - keep.keys,
                or_(
                    IdempotencyKey.response.is_not(None),
                    IdempotencyKey.locked_until < now - _CLAIM_KEPT,
                ),
            ),
            "transport_outcomes": _oldest(
                (TransportOutcome.slice_at, TransportOutcome.transport),
                TransportOutcome.slice_at,
                TransportOutcome.slice_at < now - OUTCOMES_KEPT,
            ),
        }

    def _built_in_firings(self, shift: Shift) -> int:
        with self._database.begin() as session:
            ids = session.scalars(select(Schedule.id).where(Schedule.built_in)).all()
        before = func.clock_timestamp() - BUILT_IN_KEPT
        # One schedule after the other, by the index of its times.
        return sum(
            self._remove(
                _oldest(
                    Firing.id,
                    Firing.fire_at,
                    Firing.schedule_id == schedule_id,
                    Firing.fire_at < before,
                    Firing.finished_at < before,
                ),
                shift,
            )
            for schedule_id in ids
        )

    def _remove(self, remove: Callable[[Session], int], shift: Shift) -> int:
        removed = 0
        while not shift.is_over():
            with self._database.begin() as session:
                batch = remove(session)
            removed += batch
            if batch < _BATCH:
                break
        return removed

    def _reports_of_nobody(self, shift: Shift) -> int:
        """Remove reports on jobs that are gone, or never were.

        Those on a job go with it. What is left is looked through in the order of its coming, up to
        what is not old enough.
        """
        removed = 0
        for ids in self._old_reports(shift):
            # Reports on shadow copies name the job with a suffix.
            named = func.replace(InboxReport.job_id, SHADOW_SUFFIX, "")
            nobody = ~exists().where(Job.id == InboxReport.job_id) & ~exists().where(
                Job.id == named
            )
            with self._database.begin() as session:
                gone = delete(InboxReport).where(InboxReport.id.in_(ids), nobody)
                removed += _count(session, gone.returning(InboxReport.id))
        return removed

    def _old_reports(self, shift: Shift) -> Iterator[list[int]]:
        after = 0
        before = func.clock_timestamp() - self._retention.reports
        while not shift.is_over():
            with self._database.begin() as session:
                rows = session.execute(
                    select(
                        InboxReport.id,
                        InboxReport.applied_at < before,
                        InboxReport.received_at < before,
                    )
                    .where(InboxReport.id > after)
                    .order_by(InboxReport.id)
                    .limit(_BATCH)
                ).all()
            yield [row[0] for row in rows if row[1]]
            if len(rows) < _BATCH or not rows[-1][2]:
                return
            after = rows[-1][0]


_Column = InstrumentedAttribute[Any]


def _oldest(
    key: _Column | tuple[_Column, ...], order: _Column, *conditions: ColumnElement[bool]
) -> Callable[[Session], int]:
    """Return what removes the next batch of rows, and says how many these were.

    Args:
        key: of the rows.
        order: in which they go.
        conditions: that they meet.
    """
    keys = key if isinstance(key, tuple) else (key,)
    table = keys[0].class_

    def remove(session: Session) -> int:
        chosen = (
            select(*keys)
            .where(*conditions)
            .order_by(order)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
            .cte("chosen")
        )
        gone = delete(table).where(tuple_(*keys).in_(select(*chosen.c)))
        return _count(session, gone.returning(*keys))

    return remove


def _count(session: Session, statement: Any) -> int:
    return len(session.execute(statement.execution_options(synchronize_session=False)).all())
