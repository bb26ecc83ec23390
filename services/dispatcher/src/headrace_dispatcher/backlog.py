"""What is open, counted: one look at the rows, for the queues, for `/state` and for Prometheus."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane

#: What a job waits for that waits for its own next try.
RETRY: Final = "retry"
#: And one that begins when its client wants it to.
RUN_AT: Final = "run_at"

# It reads every open job. In statuses after these `retry_at` means that an analysis server is being
# asked again.
_OPEN: Final = text("""
SELECT kind, lane, status,
    CASE WHEN status = 'scheduled' THEN 'run_at'
        WHEN retry_at IS NOT NULL AND status IN ('queuing', 'queued', 'processing')
        THEN coalesce(waiting_for, 'retry') END AS waits_for,
    count(*) AS jobs,
    extract(epoch FROM now() - min(stage_entered_at)) AS oldest,
    extract(epoch FROM now() - min(CASE status WHEN 'scheduled' THEN run_at ELSE retry_at END))
        AS overdue
FROM jobs WHERE finished_at IS NULL GROUP BY 1, 2, 3, 4
""")


@dataclass(frozen=True)
class OpenJobs:
    """Open jobs that are alike.

    Attributes:
        waits_for: a dependency at fault, RETRY or RUN_AT; None: for nothing in their rows.
        count: how many.
        oldest_seconds: since the first of them entered its status; 0 where that is to come.
        overdue_seconds: since the first of those that wait should have gone on; negative until
            then.
    """

    kind: JobKind
    lane: Lane
    status: JobStatus
    waits_for: str | None
    count: int
    oldest_seconds: float
    overdue_seconds: float


@dataclass
class QueueBacklog:
    """Jobs of one queue.

    Attributes:
        waiting: for a worker.
        started: in a worker's hands.
        oldest_seconds: since the first of those that wait began to.
        waits_for: those of both that wait in their rows, by what for.
    """

    waiting: int = 0
    started: int = 0
    oldest_seconds: float = 0.0
    waits_for: dict[str, int] = field(default_factory=dict)


def open_jobs(session: Session) -> list[OpenJobs]:
    """Count the open jobs, by all that tells them apart here."""
    return [
        OpenJobs(
            JobKind(row.kind),
            Lane(row.lane),
            JobStatus(row.status),
            row.waits_for,
            row.jobs,
            max(float(row.oldest), 0.0),
            float(row.overdue or 0),
        )
        for row in session.execute(_OPEN)
    ]


def by_queue(found: Iterable[OpenJobs]) -> dict[Lane | None, QueueBacklog]:
    """Return the backlog of every lane that has one; a key of None stands for the stream."""
    queues: dict[Lane | None, QueueBacklog] = {}
    for jobs in found:
        if jobs.status not in {JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING}:
            continue
        lane = jobs.lane if jobs.kind is JobKind.AUDIO_ANALYSIS else None
        queue = queues.setdefault(lane, QueueBacklog())
        if jobs.waits_for is not None:
            queue.waits_for[jobs.waits_for] = queue.waits_for.get(jobs.waits_for, 0) + jobs.count
        if jobs.status is JobStatus.PROCESSING:
            queue.started += jobs.count
        else:
            queue.waiting += jobs.count
            queue.oldest_seconds = max(queue.oldest_seconds, round(jobs.oldest_seconds, 1))
    return queues


def waiting(found: Iterable[OpenJobs]) -> dict[str, int]:
    """Return how many audio jobs wait in their rows, by what for."""
    counts: dict[str, int] = {}
    for jobs in found:
        if jobs.kind is JobKind.AUDIO_ANALYSIS and jobs.waits_for is not None:
            counts[jobs.waits_for] = counts.get(jobs.waits_for, 0) + jobs.count
    return counts


def overdue_seconds(found: Iterable[OpenJobs]) -> float:
    """Return since when the first audio job that waits should have gone on; 0: none is late."""
    late = [
        jobs.overdue_seconds
        for jobs in found
        if jobs.kind is JobKind.AUDIO_ANALYSIS and jobs.waits_for is not None
    ]
    return max([0.0, *late])
