"""Letters of the inbox: reports that the results service has given up.

The row stays what it is; a letter only points to it, by its id.
"""

from typing import Final

from sqlalchemy import Text, cast, exists, select

from headrace_common.db import POISONED, Database, DeadLetter, InboxReport
from headrace_dispatcher.dead.keeping import keep_in
from headrace_dispatcher.dead.letter import Kind, NewLetter, Source, State

QUEUE: Final = "webhook_inbox"
_BATCH: Final = 200


class InboxLetters:
    """Points to the poisoned reports."""

    source = Source.WEBHOOK

    def __init__(self, database: Database) -> None:
        """Look in `database`."""
        self._database = database

    def collect(self) -> None:
        """Note all that are new."""
        while self._note() == _BATCH:
            pass

    def _note(self) -> int:
        with self._database.begin() as session:
            known = exists().where(
                DeadLetter.source == Source.WEBHOOK,
                DeadLetter.queue == QUEUE,
                DeadLetter.source_id == cast(InboxReport.id, Text),
                DeadLetter.state != State.REPLAYED,
            )
            rows = session.scalars(
                select(InboxReport)
                .where(
                    InboxReport.applied_at.is_(None),
                    InboxReport.outcome.startswith(POISONED, autoescape=True),
                    ~known,
                )
                .order_by(InboxReport.id)
                .limit(_BATCH)
            ).all()
            keep_in(session, [letter_of(row) for row in rows])
        return len(rows)


def letter_of(row: InboxReport) -> NewLetter:
    """Make the letter of a report that was given up."""
    reason = (row.outcome or "").removeprefix(POISONED)
    # `gave up after 5 attempts: KeyError`
    _, _, error = reason.rpartition(": ")
    return NewLetter(
        source=Source.WEBHOOK,
        queue=QUEUE,
        source_id=str(row.id),
        kind=Kind.INBOX_REPORT,
        code=error if error.isidentifier() else "poisoned",
        reason=reason,
        payload={"source": row.source, "report": row.payload},
        died_at=row.last_received_at,
        job_id=row.job_id,
        run=row.run,
        attempts=row.attempts,
    )
