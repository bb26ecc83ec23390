"""Which letters are meant: by filter, one by one, or all."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, or_

from headrace_common.db import DeadLetter
from headrace_dispatcher.dead.letter import Source, State


@dataclass(frozen=True, kw_only=True)
class LetterFilter:
    """Which letters; every field that is set must hold.

    Attributes:
        died_after: inclusive.
        died_before: exclusive.
        text: stands in the reason, the code, or one of the ids.
    """

    source: Source | None = None
    queue: str | None = None
    code: str | None = None
    fingerprint: str | None = None
    job_id: str | None = None
    replay_id: str | None = None
    states: tuple[State, ...] = ()
    died_after: datetime | None = None
    died_before: datetime | None = None
    text: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what must hold of a row."""
        equal = {
            DeadLetter.source: self.source,
            DeadLetter.queue: self.queue,
            DeadLetter.code: self.code,
            DeadLetter.fingerprint: self.fingerprint,
            DeadLetter.job_id: self.job_id,
            DeadLetter.replay_id: self.replay_id,
        }
        found = [column == value for column, value in equal.items() if value is not None]
        if self.states:
            found.append(DeadLetter.state.in_(self.states))
        if self.died_after is not None:
            found.append(DeadLetter.died_at >= self.died_after)
        if self.died_before is not None:
            found.append(DeadLetter.died_at < self.died_before)
        if self.text is not None:
            found.append(_contains(self.text))
        return found


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Letters that something is to be done with, of those that are dead.

    Attributes:
        ids: these, where given.
        wanted: those that it fits, where given; neither means all.
        limit: so many at most, those that died first.
    """

    ids: tuple[str, ...] | None = None
    wanted: LetterFilter | None = None
    limit: int

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what must hold of a row."""
        found: list[ColumnElement[bool]] = [DeadLetter.state == State.DEAD]
        if self.ids is not None:
            found.append(DeadLetter.id.in_(self.ids))
        if self.wanted is not None:
            found += self.wanted.conditions()
        return found


def _contains(text: str) -> ColumnElement[bool]:
    """Search what people read; the payload may hold secrets, which a search must not tell of."""
    columns = (DeadLetter.reason, DeadLetter.code, DeadLetter.job_id, DeadLetter.source_id)
    return or_(*(column.icontains(text, autoescape=True) for column in columns))
