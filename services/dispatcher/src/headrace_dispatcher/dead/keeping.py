"""Keeping letters: each once, however often it is found."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common.db import Database, DeadLetter
from headrace_dispatcher.dead.fingerprint import fingerprint
from headrace_dispatcher.dead.letter import NewLetter, State, storable
from headrace_dispatcher.dead.metrics import COLLECTED

#: Makes letters durable, and returns how many were new. Only then they may be removed elsewhere.
Keep = Callable[[Sequence[NewLetter]], int]


def keep_in(session: Session, letters: Sequence[NewLetter]) -> int:
    """Store letters, and return how many were new.

    One that is known already is left as it is, whatever was decided about it. Only what was
    replayed and is dead again under its old id, as reports in the inbox are, is dead anew.
    """
    rows = {(letter.source, letter.queue, letter.source_id): letter for letter in letters}
    if not rows:
        return 0
    statement = insert(DeadLetter).values([_values(letter) for letter in rows.values()])
    again = {
        name: statement.excluded[name]
        for name in ("code", "reason", "fingerprint", "payload", "attempts", "died_at")
    }
    kept = session.execute(
        statement.on_conflict_do_update(
            index_elements=[DeadLetter.source, DeadLetter.queue, DeadLetter.source_id],
            set_={
                **again,
                "state": State.DEAD.value,
                "state_at": func.clock_timestamp(),
                "state_by": None,
            },
            where=(DeadLetter.state == State.REPLAYED) & (DeadLetter.source == "webhook"),
        ).returning(DeadLetter.source)
    ).all()
    for row in kept:
        COLLECTED.labels(source=row.source).inc()
    return len(kept)


def keeper(database: Database) -> Keep:
    """Return what keeps letters in `database`, each call in one transaction."""

    def keep(letters: Sequence[NewLetter]) -> int:
        with database.begin() as session:
            return keep_in(session, letters)

    return keep


def _values(letter: NewLetter) -> dict[str, Any]:
    reason = storable(letter.reason)
    return {
        "id": uuid4().hex,
        "source": letter.source.value,
        "queue": letter.queue,
        "source_id": letter.source_id,
        "kind": letter.kind.value,
        "job_id": letter.job_id,
        "run": letter.run,
        "fingerprint": fingerprint(
            source=letter.source, queue=letter.queue, code=letter.code, reason=reason
        ),
        "code": storable(letter.code, longest=100),
        "reason": reason,
        "payload": letter.payload,
        "attempts": letter.attempts,
        "died_at": letter.died_at,
        "at_source": letter.at_source,
    }
