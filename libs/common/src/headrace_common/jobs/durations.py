"""How long jobs take, as a whole and stage by stage."""

from dataclasses import dataclass
from typing import Final

from prometheus_client import Histogram

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane

#: Seconds. 900 is what the objective on the time of an audio job asks for.
_BUCKETS: Final = (0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 14_400)

_STAGE_SECONDS: Final = Histogram(
    "headrace_job_stage_duration_seconds",
    "Time in a status, when a job left it: since it came to be in it, or was last taken up in it",
    ["kind", "status"],
    buckets=_BUCKETS,
)
_JOB_SECONDS: Final = Histogram(
    "headrace_job_duration_seconds",
    "From when a job was queued, or made where it never was, until its end; a later run of it "
    "counts from when that was queued",
    ["kind", "lane", "status"],
    buckets=_BUCKETS,
)


@dataclass(frozen=True)
class Moved:
    """A job that left a status.

    Attributes:
        left: the status.
        stage_seconds: how long it was there.
        run_seconds: since the present run began, where the job has ended.
    """

    kind: JobKind
    lane: Lane
    left: JobStatus
    stage_seconds: float
    run_seconds: float


def observe(moved: Moved, status: JobStatus) -> None:
    """Measure a job that went on to `status`."""
    if moved.left is status:
        return
    if not moved.left.is_final:
        _STAGE_SECONDS.labels(kind=moved.kind, status=moved.left).observe(moved.stage_seconds)
    if status.is_final:
        _JOB_SECONDS.labels(kind=moved.kind, lane=moved.lane, status=status).observe(
            moved.run_seconds
        )
