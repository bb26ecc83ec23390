"""The inbox: every report is a durable row before anything is done with it.

A row is waiting (neither `applied_at` nor a `poisoned` outcome), applied (`applied_at` set; the
outcome says what that did), or poisoned (given up, for an operator to look at).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import JsonValue
from sqlalchemy import ColumnElement, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from headrace_common.contracts import JobStatus
from headrace_common.db import POISONED, InboxReport, Job
from headrace_common.errors import ConflictError, NotFoundError
from headrace_results import shadow
from headrace_results.reports import canonical

#: Earlier reports on a job that are applied first; a sender of more has its order to itself.
_MOST_EARLIER: Final = 20


class Source(StrEnum):
    """The way that a report came in."""

    WEBHOOK = "webhook"  #: signed
    CALLBACK = "callback"  #: with the job's token
    SQS = "sqs"
    STREAM = "stream"  #: of the gpu-preprocessor


class WebhookOfAnotherJobError(ConflictError):
    """A webhook's id came in before, with another job: a replay, or a sender at fault."""

    code = "webhook_of_another_job"
    title = "Webhook of another job"


@dataclass(frozen=True, kw_only=True)
class NewReport:
    """A report to be kept.

    Attributes:
        run: of the job that it answers, as its sender says; None where that says nothing.
        trace: W3C trace context that came with it; that of the job is kept where it is empty.
        heartbeat: it is a sign of life only, see `heartbeats`, and not to be kept.
    """

    job_id: str
    dedup_key: str
    source: Source
    payload: dict[str, JsonValue]
    run: int | None = None
    trace: dict[str, str] = field(default_factory=dict)
    heartbeat: bool = False


@dataclass(frozen=True)
class Receipt:
    """What became of a report that was to be kept.

    Attributes:
        deliveries: times that it came in, this one included.
        same_payload: False where an earlier one with the same key said something else.
        job: that it is about, before it is applied.
    """

    inbox_id: int
    job_id: str
    trace: dict[str, str]
    deliveries: int
    same_payload: bool
    job: "JobFacts"

    @property
    def duplicate(self) -> bool:
        """Whether it came in before."""
        return self.deliveries > 1


@dataclass(frozen=True)
class JobFacts:
    """What the sender of a report is told of its job."""

    status: JobStatus
    run: int
    trace: dict[str, str]
    copy_wanted: bool = False

    def wants(self, run: int | None) -> bool:
        """Whether what is done in `run` is still wanted; None: the sender did not say the run."""
        wanted = self.copy_wanted or not self.status.is_final
        return wanted and run in {None, self.run}


def signed_key(webhook_id: str) -> str:
    """Return the key by which a replay of a signed webhook is recognised.

    The job is no part of it: where only the query names the job, no signature covers that, and
    a captured webhook could be replayed for any other job.
    """
    return f"webhook:{webhook_id}"


def stream_key(stream: str, entry_id: str, job_id: str) -> str:
    """Return the key by which a report is recognised that a stream hands out again."""
    return f"stream:{stream}:{entry_id}:{job_id}"


def content_key(job_id: str, payload: dict[str, JsonValue], *, run: int | None = None) -> str:
    """Return the key by which a report without an id of its own is recognised: what it says.

    The same said in another run is another report. The first run is not part of the key, nor is
    one that nobody told.
    """
    about = f"{job_id}\0{run}" if run is not None and run > 1 else job_id
    digest = hashlib.sha256(about.encode() + b"\0" + canonical(payload))
    return f"content:{digest.hexdigest()}"


def keep(session: Session, new: NewReport) -> Receipt:
    """Store a report, or count one more delivery of the same.

    Raises:
        NotFoundError: there is no such job.
        WebhookOfAnotherJobError: its key was used for another job; nothing is stored.
    """
    facts = facts_of(session, new)
    trace = new.trace or facts.trace
    row = session.execute(
        insert(InboxReport)
        .values(
            dedup_key=new.dedup_key,
            job_id=new.job_id,
            source=new.source,
            payload=new.payload,
            run=new.run,
            trace=trace,
        )
        .on_conflict_do_update(
            index_elements=[InboxReport.dedup_key],
            set_={
                InboxReport.deliveries: InboxReport.deliveries + 1,
                InboxReport.last_received_at: func.clock_timestamp(),
            },
            where=InboxReport.job_id == new.job_id,
        )
        .returning(
            InboxReport.id,
            InboxReport.deliveries,
            (InboxReport.payload == literal(new.payload, JSONB)).label("same_payload"),
        )
    ).one_or_none()
    if row is None:
        raise WebhookOfAnotherJobError("this webhook-id was used for a report on another job")
    return Receipt(row.id, new.job_id, trace, row.deliveries, row.same_payload, facts)


def facts_of(session: Session, new: NewReport) -> JobFacts:
    """Return where the job of a report is; that of a copy is the job it was made of.

    Raises:
        NotFoundError: there is none.
    """
    is_copy = new.source != Source.STREAM and shadow.is_shadow(new.job_id)
    about = shadow.original_id(new.job_id) if is_copy else new.job_id
    job = session.execute(
        select(Job.trace, Job.status, Job.run, Job.finished_at).where(Job.id == about)
    ).one_or_none()
    if job is None:
        raise NotFoundError(f"no job {new.job_id!r}")
    status = JobStatus(job.status)
    wanted = is_copy and shadow.is_wanted(status, job.finished_at)
    return JobFacts(status, job.run, job.trace, copy_wanted=wanted)


def begin_attempt(session: Session, inbox_id: int) -> int | None:
    """Count one more attempt at applying a report, before it is made.

    Counted in a transaction of its own, so that an attempt which kills its process counts.

    Returns:
        Which attempt it is, from 1; None if nothing is left to do.
    """
    return session.scalar(
        update(InboxReport)
        .where(InboxReport.id == inbox_id, waiting())
        .values(attempts=InboxReport.attempts + 1)
        .returning(InboxReport.attempts)
    )


def waiting_before(session: Session, inbox_id: int) -> Sequence[int]:
    """Return the reports on the same job that came earlier and are not applied, in order."""
    job_id = select(InboxReport.job_id).where(InboxReport.id == inbox_id).scalar_subquery()
    return session.scalars(
        select(InboxReport.id)
        .where(InboxReport.job_id == job_id, InboxReport.id < inbox_id, waiting())
        .order_by(InboxReport.id)
        .limit(_MOST_EARLIER)
    ).all()


def lock(session: Session, inbox_id: int) -> InboxReport | None:
    """Lock a report that waits; None if nothing is left to do."""
    return session.scalar(
        select(InboxReport).where(InboxReport.id == inbox_id, waiting()).with_for_update()
    )


def due(session: Session, *, retry_seconds: float, limit: int) -> Sequence[int]:
    """Return the ids of reports that have waited too long, and that nobody has locked.

    A report is due `retry_seconds` after it came in, and each attempt doubles that.
    """
    wait = func.make_interval(0, 0, 0, 0, 0, 0, retry_seconds * func.power(2, InboxReport.attempts))
    return session.scalars(
        select(InboxReport.id)
        .where(waiting(), InboxReport.received_at + wait < func.now())
        .order_by(InboxReport.received_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def note_failure(session: Session, inbox_id: int, outcome: str) -> None:
    """Write down why a report was not applied; one that another has given up stays so."""
    session.execute(
        update(InboxReport).where(InboxReport.id == inbox_id, waiting()).values(outcome=outcome)
    )


def unapplied_counts(session: Session) -> tuple[int, int]:
    """Return how many reports wait, and how many are poisoned."""
    row = session.execute(
        select(
            func.count().filter(waiting()).label("waiting"),
            func.count().filter(~waiting()).label("poisoned"),
        )
        .select_from(InboxReport)
        .where(InboxReport.applied_at.is_(None))
    ).one()
    return row.waiting, row.poisoned


def of_job(session: Session, job_id: str, *, after: int, limit: int) -> Sequence[InboxReport]:
    """Return the reports on a job after the one with the id `after`, in the order they came."""
    return session.scalars(
        select(InboxReport)
        .where(InboxReport.job_id == job_id, InboxReport.id > after)
        .order_by(InboxReport.id)
        .limit(limit)
    ).all()


def waiting() -> ColumnElement[bool]:
    """Return the condition that a report is neither applied nor given up."""
    given_up = InboxReport.outcome.startswith(POISONED)
    return InboxReport.applied_at.is_(None) & or_(InboxReport.outcome.is_(None), ~given_up)
