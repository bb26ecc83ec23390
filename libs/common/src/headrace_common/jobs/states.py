"""Which status may follow which, and the progress that clients know for each (A6)."""

from typing import Final

from headrace_common.contracts.jobs import JobStatus

#: Per cent shown on entering a status; failing and cancelling keep what was reached.
PROGRESS: Final[dict[JobStatus, int]] = {
    JobStatus.UPLOADING: 10,
    JobStatus.SCHEDULED: 35,
    JobStatus.QUEUING: 40,
    JobStatus.QUEUED: 50,
    JobStatus.PROCESSING: 50,
    JobStatus.QUEUED_FOR_ANALYSIS: 80,
    JobStatus.COMPLETED: 100,
    JobStatus.FAILED: 0,
    JobStatus.CANCELLED: 0,
}
#: Per cent shown once the file is stored, still `uploading`.
PROGRESS_STORED: Final = 30
#: Highest per cent of a job that somebody still works on.
PROGRESS_WORK_MAX: Final = 99
#: Statuses within which progress is told; a per cent below what was reached is refused.
TELL_PROGRESS: Final = frozenset({JobStatus.PROCESSING, JobStatus.QUEUED_FOR_ANALYSIS})
#: Statuses of a job that has a message and has not been sent: it may wait for a dependency.
HOLDABLE: Final = frozenset({JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING})

_OPEN: Final = frozenset(JobStatus.open())
#: Of these nobody has been told yet: no message, and so no answer.
_UNTOLD: Final = frozenset({JobStatus.UPLOADING, JobStatus.SCHEDULED})

# A message can be delivered before its sender noted that it was sent, and an answer can come
# before the question was noted as asked. So a later status may follow any earlier one from
# the moment the job was handed to the queue; no status ever follows a later one.
_PREDECESSORS: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.UPLOADING: frozenset({JobStatus.UPLOADING}),
    JobStatus.SCHEDULED: frozenset({JobStatus.UPLOADING}),
    JobStatus.QUEUING: frozenset({JobStatus.UPLOADING}),
    JobStatus.QUEUED: frozenset({JobStatus.SCHEDULED, JobStatus.QUEUING, JobStatus.QUEUED}),
    JobStatus.PROCESSING: frozenset({JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING}),
    JobStatus.QUEUED_FOR_ANALYSIS: _OPEN - _UNTOLD,
    JobStatus.COMPLETED: _OPEN - _UNTOLD,
    JobStatus.FAILED: _OPEN,
    JobStatus.CANCELLED: _OPEN,
}


def predecessors(status: JobStatus) -> frozenset[JobStatus]:
    """Return the statuses that `status` may follow; itself among them where it may repeat."""
    return _PREDECESSORS[status]


def may_become(current: JobStatus, target: JobStatus) -> bool:
    """Whether a job in `current` may change to `target`."""
    return current in _PREDECESSORS[target]


def analysis_progress(percent: float) -> int:
    """Map an analysis server's own per cent (0 to 100) into the job's (80 to 99)."""
    return _mapped(JobStatus.QUEUED_FOR_ANALYSIS, percent)


def processing_progress(percent: float) -> int:
    """Map the gpu-preprocessor's own per cent (0 to 100) into the job's (50 to 99)."""
    return _mapped(JobStatus.PROCESSING, percent)


def _mapped(status: JobStatus, percent: float) -> int:
    first = PROGRESS[status]
    return first + int((PROGRESS_WORK_MAX - first) * min(max(percent, 0.0), 100.0) / 100)
