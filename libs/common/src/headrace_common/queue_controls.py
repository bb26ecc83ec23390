"""Paused queues: rows that say so, and who changes them. Whoever works a queue off looks here."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.sql import func

from headrace_common import audit
from headrace_common.db.models import QueueControl


def paused_queues(session: Session) -> dict[str, QueueControl]:
    """Return the queues that are paused, by name."""
    rows = session.scalars(select(QueueControl).where(QueueControl.paused))
    return {row.queue: row for row in rows}


def set_paused(
    session: Session, queue: str, *, paused: bool, actor: str, reason: str | None = None
) -> None:
    """Pause a queue or let it go on; what is said again changes nothing but who said it.

    Args:
        session: of the transaction, which also notes it in the audit trail.
        queue: a lane's queue name, or the name of the stream of camera jobs.
        paused: whether it is not worked off.
        actor: who wants it, see `headrace_common.audit`.
        reason: for people.
    """
    values = {
        "paused": paused,
        "reason": reason,
        "changed_by": actor,
        "changed_at": func.clock_timestamp(),
    }
    session.execute(
        insert(QueueControl)
        .values(queue=queue, **values)
        .on_conflict_do_update(index_elements=[QueueControl.queue], set_=values)
    )
    action = "queue.pause" if paused else "queue.resume"
    audit.record(session, actor=actor, action=action, target=queue, reason=reason)
