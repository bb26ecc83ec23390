"""Ending what the earlier firings of a schedule began, where its policy is `cancel`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.schedules import FiringState
from headrace_common.db import Firing, Job
from headrace_common.jobs import Change, JobStore, Outcome

#: Why a firing did not run, or no further: the next one of its schedule came.
OVERLAP: Final = "overlap"


@dataclass
class Cancelled:
    """What was cancelled.

    Attributes:
        outcomes: of jobs, to be published after the commit.
        camera_runs: of the camera jobs among them, by job: their workers are told then.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    camera_runs: dict[str, int] = field(default_factory=dict)


def lock_earlier(session: Session, firing: Firing) -> Sequence[Firing]:
    """Lock the open firings of a schedule that were recorded before `firing`, which is locked.

    From the latest to the earliest, so that two of a schedule that come at once do not wait for
    each other; and before any job, for who takes up one of them locks its job next.
    """
    query = (
        select(Firing)
        .where(
            Firing.schedule_id == firing.schedule_id,
            Firing.id < firing.id,
            Firing.finished_at.is_(None),
        )
        .order_by(Firing.id.desc())
        .with_for_update()
    )
    return session.scalars(query).all()


def cancel_all(
    session: Session, store: JobStore, firings: Sequence[Firing], *, by: str
) -> Cancelled:
    """End firings, and the jobs that they began.

    House-keeping that runs is left to its end: nothing interrupts it.

    Args:
        session: of the transaction that locked them.
        store: changes the jobs.
        firings: from `lock_earlier`.
        by: how the jobs' timelines name the schedule.
    """
    done = Cancelled()
    for firing in firings:
        if firing.state == FiringState.RUNNING and firing.job_id is None:
            continue
        if firing.job_id is not None:
            _cancel_job(session, store, firing.job_id, firing.job_run, by, done)
        firing.state, firing.reason = FiringState.CANCELLED, OVERLAP
        firing.finished_at = func.clock_timestamp()
    session.flush()
    return done


def _cancel_job(
    session: Session, store: JobStore, job_id: str, run: int | None, by: str, done: Cancelled
) -> None:
    """Cancel a job, unless it has ended or somebody has begun it anew."""
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None or JobStatus(job.status).is_final or job.run != run:
        return
    change = Change(
        job_id=job_id,
        to=JobStatus.CANCELLED,
        message=f"Cancelled: {by} fired again",
        only_run=run,
    )
    done.outcomes += store.apply_in(session, [change])
    if job.kind == JobKind.CCTV_PREPROCESS:
        done.camera_runs[job_id] = job.run
