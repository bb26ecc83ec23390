"""Cancelling a job, and beginning it anew: each with its note in the audit trail, at once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.db.models import Job
from headrace_common.errors import HeadraceError, JobFinishedError, NotFoundError
from headrace_common.jobs import Change, JobStore, Outcome
from headrace_common.jobs.camera_queue import cancel_jobs
from headrace_common.jobs.restart import JobRestarts, Restart
from headrace_ingest_api.operations.errors import JobCompletedError, JobRunChangedError
from headrace_ingest_api.resources import Resources

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class By:
    """Who does it, and as a part of what.

    Attributes:
        actor: see `headrace_common.audit`.
        details: for the audit trail.
    """

    actor: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RetryWish:
    """When a job may be begun anew.

    Attributes:
        force: also where it is completed.
        run: only where it is in that run.
        statuses: only where it is in one of these; empty: in any.
    """

    force: bool = False
    run: int | None = None
    statuses: Collection[JobStatus] = ()

    def check(self, job: Job) -> None:
        """Check a job that is locked.

        Raises:
            JobRunChangedError: it went on meanwhile.
            JobCompletedError: it has its result.
        """
        if self.run not in {None, job.run}:
            raise JobRunChangedError(f"the job is in run {job.run}", run=job.run)
        if self.statuses and job.status not in self.statuses:
            raise JobRunChangedError(f"the job is {job.status} by now", job_status=job.status)
        if job.status == JobStatus.COMPLETED and not self.force:
            raise JobCompletedError("the job is completed; ask with force=true for another result")


@dataclass(frozen=True)
class Refusal:
    """A job that was left as it is, and why."""

    job_id: str
    error: HeadraceError


@dataclass
class Done:
    """What became of some jobs.

    Attributes:
        runs: that they are in then, by job.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=dict)


class JobDeeds:
    """Does it, a transaction for any number of jobs. Every method blocks."""

    def __init__(self, resources: Resources) -> None:
        """Work with the process's resources."""
        self._database = resources.database
        self._store: JobStore = resources.store
        self._redis = resources.redis
        self._stream = resources.settings.redis_stream
        self._restarts = JobRestarts(
            resources.database, resources.store, resources.broker, stream=self._stream
        )

    def cancel(self, job_ids: Collection[str], by: By) -> Done:
        """Cancel jobs, wherever they are."""
        done = Done()
        with self._database.begin() as session:
            cameras = {
                job.id: job.run
                for job in _locked(session, job_ids, done)
                if self._cancel(session, job, by, done) and job.kind == JobKind.CCTV_PREPROCESS
            }
        # Not before the commit: a Redis that does not answer would have the rows stay locked.
        self._tell_workers(cameras)
        self._store.publish(done.outcomes)
        return done

    def retry(self, job_ids: Collection[str], by: By, wish: RetryWish) -> Done:
        """Begin jobs anew, wherever they are; what is under way for them does not count any more.

        A worker that cannot be told now is told by a sweep.
        """
        done = Done()
        with self._database.begin() as session:
            for job in _locked(session, job_ids, done):
                self._retry(session, job, by, wish, done)
        self._store.publish(done.outcomes)
        for restart in done.restarts:
            if not self._restarts.send(restart):
                break  # Redis is away, for the others too: a sweep tells of them all
        return done

    def _cancel(self, session: Session, job: Job, by: By, done: Done) -> bool:
        change = Change(job_id=job.id, to=JobStatus.CANCELLED, message="Cancelled by a client")
        outcome = self._store.apply_in(session, [change])[0]
        done.outcomes.append(outcome)
        if not outcome.applied:
            done.refusals.append(
                Refusal(
                    job.id,
                    JobFinishedError(
                        f"the job is already {outcome.status}", job_status=outcome.status
                    ),
                )
            )
            return False
        audit.record(session, actor=by.actor, action="job.cancel", target=job.id, **by.details)
        return True

    def _retry(self, session: Session, job: Job, by: By, wish: RetryWish, done: Done) -> None:
        status = job.status
        try:
            wish.check(job)
            restart, outcome = self._restarts.begin_in(session, job, message=_told(job, by))
        except HeadraceError as error:
            done.refusals.append(Refusal(job.id, error))
            return
        done.restarts.append(restart)
        done.outcomes.append(outcome)
        done.runs[job.id] = restart.run
        told = {"run": restart.run, "was": status, **by.details}
        audit.record(session, actor=by.actor, action="job.retry", target=job.id, **told)

    def _tell_workers(self, runs: Mapping[str, int]) -> None:
        try:
            cancel_jobs(self._redis, self._stream, runs)
        except (redis.RedisError, OSError) as error:
            # The row counts, and the results service's sweep tells the workers.
            log.warning("cancel.workers_not_told", error=str(error)[:500])


def _told(job: Job, by: By) -> str:
    """Return what the timeline says of a job that is begun anew."""
    if job.status == JobStatus.SCHEDULED:
        return f"Queued before its time, by {by.actor}"
    return f"Begun anew: run {job.run + 1}"


def _locked(session: Session, job_ids: Collection[str], done: Done) -> list[Job]:
    """Lock jobs, always in the order of their ids: two of these cannot deadlock."""
    wanted = {job_id for job_id in job_ids if "\0" not in job_id}  # Postgres has no such text
    query = select(Job).where(Job.id.in_(wanted)).order_by(Job.id).with_for_update()
    jobs = list(session.scalars(query)) if wanted else []
    for job_id in sorted(set(job_ids) - {job.id for job in jobs}):
        done.refusals.append(Refusal(job_id, NotFoundError(f"no job {job_id[:100]!r}")))
    return jobs
