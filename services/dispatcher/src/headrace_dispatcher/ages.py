"""How old the oldest job of each stage is, and how many wait, for alerts."""

from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database
from headrace_dispatcher.circuits import DEPENDENCIES
from headrace_dispatcher.gate import DATABASE_AWAY

log = structlog.get_logger()

#: It reads an index entry of every open job.
_PAUSE_SECONDS: Final = 15.0
#: What a job waits for that waits for its own next try.
RETRY: Final = "retry"
#: And one that begins when its client wants it to.
RUN_AT: Final = "run_at"

_OLDEST: Final = Gauge(
    "headrace_oldest_job_age_seconds",
    "Since the open audio job entered its stage that did so first; 0: there is none",
    ["status", "lane"],
)
_WAITING: Final = Gauge(
    "headrace_jobs_waiting",
    "Audio jobs that wait in their rows: for their next try, for a dependency at fault, or for the "
    "time at which they are to begin",
    ["waiting_for"],
)
_OVERDUE: Final = Gauge(
    "headrace_jobs_overdue_seconds", "Since the first job that waits should have been queued"
)

_AGES: Final = text("""
SELECT status, lane, extract(epoch FROM now() - min(stage_entered_at))
FROM jobs WHERE finished_at IS NULL AND kind = 'audio_analysis' GROUP BY status, lane
""")
# In later statuses `retry_at` means that an analysis server is being asked again.
_WAITS: Final = text("""
SELECT coalesce(waiting_for, 'retry') AS reason, count(*), extract(epoch FROM now() - min(retry_at))
FROM jobs WHERE retry_at IS NOT NULL AND kind = 'audio_analysis'
    AND status IN ('queuing', 'queued', 'processing')
GROUP BY reason
UNION ALL
SELECT 'run_at', count(*), extract(epoch FROM now() - min(run_at))
FROM jobs WHERE status = 'scheduled' HAVING count(*) > 0
""")
#: One that is scheduled is not late, however long ago it came in.
_AGING: Final = tuple(each for each in JobStatus.open() if each is not JobStatus.SCHEDULED)


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
        except DATABASE_AWAY as error:
            log.info("dispatcher.ages_not_measured", error=type(error).__name__)
        return _PAUSE_SECONDS

    def _measure(self) -> None:
        with self._database.begin() as session:
            ages = {(status, lane): age for status, lane, age in session.execute(_AGES)}
            waits = waiting_jobs(session)
        for status in _AGING:
            for lane in Lane:
                age = ages.get((status.value, lane.value), 0)
                _OLDEST.labels(status=status, lane=lane).set(max(float(age), 0.0))
        for name in (RETRY, RUN_AT, *DEPENDENCIES.values()):
            _WAITING.labels(waiting_for=name).set(waits[name].count if name in waits else 0)
        _OVERDUE.set(max([0.0, *(found.overdue_seconds for found in waits.values())]))


def waiting_jobs(session: Session) -> dict[str, WaitingJobs]:
    """Return the audio jobs that wait in their rows, by what they wait for."""
    rows = session.execute(_WAITS).all()
    return {name: WaitingJobs(count, float(late)) for name, count, late in rows}
