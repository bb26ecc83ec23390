"""How old the oldest job of each stage is, and how many wait, for alerts."""

from dataclasses import dataclass
from typing import Final

from prometheus_client import Gauge
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database, Job
from headrace_common.jobs.states import HOLDABLE
from headrace_dispatcher.circuits import DEPENDENCIES

#: It reads an index entry of every open job.
_PAUSE_SECONDS: Final = 15.0
#: What a job waits for that waits for its own next try.
RETRY: Final = "retry"

_OLDEST: Final = Gauge(
    "headrace_oldest_job_age_seconds",
    "Since the open audio job entered its stage that did so first; 0: there is none",
    ["status", "lane"],
)
_WAITING: Final = Gauge(
    "headrace_jobs_waiting",
    "Audio jobs that wait in their rows: for their next try, or for a dependency at fault",
    ["waiting_for"],
)
_OVERDUE: Final = Gauge(
    "headrace_jobs_overdue_seconds", "Since the first job that waits should have been queued"
)


@dataclass(frozen=True)
class WaitingJobs:
    """Jobs that wait for one thing.

    Attributes:
        count: how many.
        overdue_seconds: since the first of them should have been queued; negative until then.
    """

    count: int
    overdue_seconds: float


class JobAges:
    """Measures open jobs. Every replica does, and all say the same."""

    def __init__(self, database: Database) -> None:
        """Measure what is in `database`."""
        self._database = database

    def step(self) -> float:
        """Measure, and return the seconds until the next time; keep the figures on an error."""
        try:
            self._measure()
        except SQLAlchemyError:
            return _PAUSE_SECONDS  # the gate has told already
        return _PAUSE_SECONDS

    def _measure(self) -> None:
        now = func.now()
        oldest = (
            select(
                Job.status, Job.lane, func.extract("epoch", now - func.min(Job.stage_entered_at))
            )
            .where(Job.finished_at.is_(None), Job.kind == JobKind.AUDIO_ANALYSIS)
            .group_by(Job.status, Job.lane)
        )
        with self._database.begin() as session:
            ages = {(status, lane): age for status, lane, age in session.execute(oldest)}
            waits = waiting_jobs(session)
        for status in JobStatus.open():
            for lane in Lane:
                age = ages.get((status.value, lane.value), 0)
                _OLDEST.labels(status=status, lane=lane).set(max(float(age), 0.0))
        for name in (RETRY, *DEPENDENCIES.values()):
            _WAITING.labels(waiting_for=name).set(waits[name].count if name in waits else 0)
        _OVERDUE.set(max(0.0, *(found.overdue_seconds for found in waits.values())))


def waiting_jobs(session: Session) -> dict[str, WaitingJobs]:
    """Return the audio jobs that wait in their rows, by what they wait for."""
    waits_for = func.coalesce(Job.waiting_for, RETRY)
    rows = session.execute(
        select(waits_for, func.count(), func.extract("epoch", func.now() - func.min(Job.retry_at)))
        .where(
            Job.retry_at.is_not(None),
            Job.kind == JobKind.AUDIO_ANALYSIS,
            # In later ones it means that an analysis server is being asked again.
            Job.status.in_(HOLDABLE),
        )
        .group_by(waits_for)
    )
    return {name: WaitingJobs(count, float(late)) for name, count, late in rows}
