"""Reading letters: a page of many, groups by cause, one, and how a replay gets on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.db import DeadLetter, Job
from headrace_common.errors import NotFoundError
from headrace_dispatcher.dead.filters import LetterFilter
from headrace_dispatcher.dead.letter import State

#: A letter, and its job where there is one.
LetterOfJob = tuple[DeadLetter, Job | None]


@dataclass(frozen=True)
class LetterPage:
    """Some letters, those that died last first, and the cursor of the next page if there is one."""

    letters: Sequence[LetterOfJob]
    next_cursor: str | None


@dataclass(frozen=True)
class LetterGroup:
    """Letters with one cause.

    Attributes:
        example: that died last.
    """

    fingerprint: str
    count: int
    jobs: int
    first_died_at: datetime
    last_died_at: datetime
    sources: list[str]
    queues: list[str]
    example: LetterOfJob


@dataclass(frozen=True)
class ReplayProgress:
    """How a replay gets on: its letters by state."""

    letters: dict[State, int]
    last_due_at: datetime | None


def page(
    session: Session, wanted: LetterFilter, *, limit: int, cursor: str | None = None
) -> LetterPage:
    """Return up to `limit` letters from where `cursor` left off.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    query = (
        select(DeadLetter, Job)
        .join(Job, Job.id == DeadLetter.job_id, isouter=True)
        .where(*wanted.conditions())
        .order_by(DeadLetter.died_at.desc(), DeadLetter.id.desc())
    )
    if cursor is not None:
        place = tuple_(DeadLetter.died_at, DeadLetter.id)
        query = query.where(place < tuple_(*read_cursor(cursor)))
    rows = [(letter, job) for letter, job in session.execute(query.limit(limit + 1))]
    more = len(rows) > limit
    last = rows[limit - 1][0] if more else None
    return LetterPage(rows[:limit], make_cursor(last.died_at, last.id) if last else None)


def get(session: Session, letter_id: str) -> LetterOfJob:
    """Return a letter.

    Raises:
        NotFoundError: there is none with that id.
    """
    letter = session.get(DeadLetter, letter_id)
    if letter is None:
        raise NotFoundError(f"no dead letter {letter_id!r}")
    return letter, session.get(Job, letter.job_id) if letter.job_id is not None else None


def groups(session: Session, wanted: LetterFilter, *, limit: int) -> list[LetterGroup]:
    """Return the causes that most letters have, with one letter each as an example."""
    newest = aggregate_order_by(DeadLetter.id, DeadLetter.died_at.desc(), DeadLetter.id.desc())
    rows = session.execute(
        select(
            DeadLetter.fingerprint,
            func.count().label("letters"),
            func.count(DeadLetter.job_id.distinct()).label("jobs"),
            func.min(DeadLetter.died_at).label("first"),
            func.max(DeadLetter.died_at).label("last"),
            func.array_agg(DeadLetter.source.distinct()).label("sources"),
            func.array_agg(DeadLetter.queue.distinct()).label("queues"),
            func.array_agg(newest)[1].label("example"),
        )
        .where(*wanted.conditions())
        .group_by(DeadLetter.fingerprint)
        .order_by(func.count().desc(), DeadLetter.fingerprint)
        .limit(limit)
    ).all()
    examples = _by_id(session, [row.example for row in rows])
    return [
        LetterGroup(
            fingerprint=row.fingerprint,
            count=row.letters,
            jobs=row.jobs,
            first_died_at=row.first,
            last_died_at=row.last,
            sources=row.sources,
            queues=row.queues,
            example=examples[row.example],
        )
        for row in rows
        if row.example in examples
    ]


def progress(session: Session, replay_id: str) -> ReplayProgress:
    """Return how a replay gets on.

    Raises:
        NotFoundError: there is none with that id, or its letters are not kept any more.
    """
    rows = session.execute(
        select(DeadLetter.state, func.count(), func.max(DeadLetter.due_at))
        .where(DeadLetter.replay_id == replay_id)
        .group_by(DeadLetter.state)
    ).all()
    if not rows:
        raise NotFoundError(f"no replay {replay_id!r}")
    return ReplayProgress(
        {State(state): count for state, count, _ in rows},
        max((due for _, _, due in rows if due is not None), default=None),
    )


def _by_id(session: Session, ids: Sequence[str]) -> dict[str, LetterOfJob]:
    rows = session.execute(
        select(DeadLetter, Job)
        .join(Job, Job.id == DeadLetter.job_id, isouter=True)
        .where(DeadLetter.id.in_(ids))
    )
    return {letter.id: (letter, job) for letter, job in rows}
