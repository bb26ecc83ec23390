"""What operators decide about letters: replays and drops, each noted in the audit trail."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import func, literal, select, update
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.db import DeadLetter, InboxReport, Job
from headrace_common.errors import NotFoundError
from headrace_dispatcher.dead.filters import Selection
from headrace_dispatcher.dead.letter import Kind, Source, State
from headrace_dispatcher.dead.metrics import DROPPED
from headrace_dispatcher.dead.plan import Action, JobFacts, LetterFacts, plan_replay


@dataclass(frozen=True)
class Replay:
    """A replay that was begun.

    Attributes:
        id: None where no letter was meant.
        first_due_at, last_due_at: when its letters are replayed.
    """

    id: str | None
    letters: int
    first_due_at: datetime | None = None
    last_due_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """Who decides what, for the audit trail.

    Attributes:
        told: how the letters were chosen, as the request said it.
    """

    actor: str
    told: dict[str, Any]


def preview(session: Session, selection: Selection) -> Counter[Action]:
    """Return what a replay would do, counted; changes nothing."""
    chosen = (
        select(DeadLetter.kind, DeadLetter.job_id, DeadLetter.run)
        .where(*selection.conditions())
        .order_by(DeadLetter.died_at, DeadLetter.id)
        .limit(selection.limit)
        .subquery()
    )
    # The plan depends on these alone, so that it is made once for all letters that share them.
    facts = (
        chosen.c.kind,
        chosen.c.run,
        chosen.c.job_id.is_not(None).label("names_job"),
        func.coalesce(chosen.c.job_id.endswith(SHADOW_SUFFIX, autoescape=True), False).label(
            "is_shadow"
        ),
        Job.status,
        Job.run.label("job_run"),
        Job.discard_at.is_not(None).label("discarded"),
    )
    rows = session.execute(
        select(*facts, func.count().label("letters"))
        .select_from(chosen)
        .join(Job, Job.id == chosen.c.job_id, isouter=True)
        .group_by(*facts)
    )
    counts: Counter[Action] = Counter()
    for row in rows:
        letter = LetterFacts(Kind(row.kind), row.run, row.names_job, row.is_shadow)
        job = None
        if row.status is not None:
            job = JobFacts.of(row.status, row.job_run, discarded=row.discarded)
        counts[plan_replay(letter, job).action] += row.letters
    return counts


def replay(
    session: Session, selection: Selection, decision: Decision, *, rate_per_second: float | None
) -> Replay:
    """Have letters replayed, so many a second from now on; all at once where no rate is given."""
    replay_id = uuid4().hex
    locked = (
        select(DeadLetter.id, DeadLetter.died_at)
        .where(*selection.conditions())
        .order_by(DeadLetter.died_at, DeadLetter.id)
        .limit(selection.limit)
        .with_for_update()
        .cte("locked")
    )
    place = func.row_number().over(order_by=(locked.c.died_at, locked.c.id)) - 1
    numbered = select(locked.c.id, place.label("place")).cte("numbered")
    seconds = numbered.c.place / literal(rate_per_second) if rate_per_second else literal(0.0)
    marked = (
        update(DeadLetter)
        .where(DeadLetter.id == numbered.c.id)
        .values(
            state=State.REPLAYING,
            state_at=func.clock_timestamp(),
            state_by=decision.actor,
            outcome=None,
            replay_id=replay_id,
            due_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
        )
        .returning(DeadLetter.due_at)
        .cte("marked")
    )
    count, first, last = session.execute(
        select(func.count(), func.min(marked.c.due_at), func.max(marked.c.due_at))
    ).one()
    audit.record(
        session,
        actor=decision.actor,
        action="dead.replay",
        target=f"replay/{replay_id}",
        letters=count,
        rate_per_second=rate_per_second,
        **decision.told,
    )
    return Replay(replay_id if count else None, count, first, last)


def stop(session: Session, replay_id: str, *, actor: str) -> int:
    """Let what a replay has not come to yet be dead as before, and return how many letters.

    Raises:
        NotFoundError: there is no such replay.
    """
    of_replay = DeadLetter.replay_id == replay_id
    if session.scalar(select(DeadLetter.id).where(of_replay).limit(1)) is None:
        raise NotFoundError(f"no replay {replay_id!r}")
    stopped = session.scalars(
        update(DeadLetter)
        .where(of_replay, DeadLetter.state == State.REPLAYING)
        .values(
            state=State.DEAD,
            state_at=func.clock_timestamp(),
            state_by=actor,
            outcome="its replay was stopped",
            due_at=None,
        )
        .returning(DeadLetter.id)
    ).all()
    audit.record(
        session,
        actor=actor,
        action="dead.stop",
        target=f"replay/{replay_id}",
        letters=len(stopped),
    )
    return len(stopped)


def count(session: Session, selection: Selection) -> int:
    """Return how many letters are meant; changes nothing."""
    chosen = select(DeadLetter.id).where(*selection.conditions()).limit(selection.limit)
    return session.scalar(select(func.count()).select_from(chosen.subquery())) or 0


def drop(session: Session, selection: Selection, decision: Decision) -> int:
    """Give letters up for good, and return how many.

    Entries of streams are deleted where they died by the next look; a report in the inbox is
    settled with its letter.
    """
    chosen = (
        select(DeadLetter.id)
        .where(*selection.conditions())
        .order_by(DeadLetter.died_at, DeadLetter.id)
        .limit(selection.limit)
        .with_for_update()
        .cte("chosen")
    )
    dropped = session.execute(
        update(DeadLetter)
        .where(DeadLetter.id == chosen.c.id)
        .values(
            state=State.DROPPED,
            state_at=func.clock_timestamp(),
            state_by=decision.actor,
            outcome="dropped",
        )
        .returning(DeadLetter.source, DeadLetter.source_id)
    ).all()
    reports = [int(row.source_id) for row in dropped if row.source == Source.WEBHOOK]
    if reports:
        session.execute(
            update(InboxReport)
            .where(InboxReport.id.in_(reports), InboxReport.applied_at.is_(None))
            .values(
                applied_at=func.clock_timestamp(),
                outcome=func.concat("dropped: ", InboxReport.outcome),
            )
        )
    audit.record(
        session,
        actor=decision.actor,
        action="dead.drop",
        target="dead-letters",
        letters=len(dropped),
        **decision.told,
    )
    for source, letters in Counter(row.source for row in dropped).items():
        DROPPED.labels(source=source).inc(letters)
    return len(dropped)
