"""The audit trail: who did what to the installation, written with the deed in one transaction."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.db.models import AuditEntry
from headrace_common.errors import BadRequestError
from headrace_common.keys import Principal

#: Who acts where no API key does: the old endpoints that LEGACY_OPEN_ENDPOINTS opens.
ANONYMOUS: Final = "anonymous"


def actor_of(caller: Principal) -> str:
    """Return how the trail names a caller: by the id of its key."""
    return caller.key_id or ANONYMOUS


def record(session: Session, *, actor: str, action: str, target: str, **details: Any) -> None:
    """Note a deed, in the transaction that does it.

    Args:
        session: of that transaction.
        actor: from `actor_of`, or a name of ours such as `auto-rollback`.
        action: noun and verb, `dead.replay`.
        target: what it was done to.
        details: JSON values, without secrets.
    """
    session.add(AuditEntry(actor=actor, action=action, target=target, details=details))


def page(
    session: Session, *, limit: int, cursor: str | None = None, target: str | None = None
) -> tuple[Sequence[AuditEntry], str | None]:
    """Return up to `limit` entries, newest first, and the cursor of the next page.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    query = select(AuditEntry).order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
    if target is not None:
        query = query.where(AuditEntry.target == target)
    if cursor is not None:
        at, entry_id = read_cursor(cursor)
        if not entry_id.isdecimal():
            raise BadRequestError("the cursor is not one that this API gave")
        query = query.where(tuple_(AuditEntry.at, AuditEntry.id) < tuple_(at, int(entry_id)))
    rows = session.scalars(query.limit(limit + 1)).all()
    more = len(rows) > limit
    return rows[:limit], make_cursor(rows[limit - 1].at, str(rows[limit - 1].id)) if more else None
