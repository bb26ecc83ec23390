"""What is done about a camera job that nobody has said anything of: pure decisions."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from headrace_common.contracts import JobStatus

#: `error.code` of a job whose entry was lost again and again.
ENTRY_LOST: Final = "entry_lost"


class Action(StrEnum):
    """What to do."""

    REQUEUE = "requeue"
    FAIL = "fail"


@dataclass(frozen=True)
class LostLimits:
    """When a job counts as lost, and how often that may happen to it.

    Attributes:
        lost_after: silence of a job that was on the stream.
        unqueued_after: silence of a job that never got there: Redis was away.
        max_requeues: times that a job is put on the stream again.
    """

    lost_after: timedelta
    unqueued_after: timedelta
    max_requeues: int

    def silence(self, status: JobStatus) -> timedelta:
        """Return how long a job in `status` may be silent before it is looked for."""
        return self.unqueued_after if status is JobStatus.QUEUING else self.lost_after


@dataclass(frozen=True)
class LostJob:
    """A job that was silent for too long and that Redis does not hold.

    Attributes:
        requeues: times that it was put on the stream again.
        readable: whether its entry can be made anew from its row.
    """

    status: JobStatus
    requeues: int
    readable: bool


@dataclass(frozen=True)
class Recovery:
    """What to do, and why, for people."""

    action: Action
    reason: str


def plan_recovery(job: LostJob, limits: LostLimits) -> Recovery:
    """Decide what becomes of a job that is lost."""
    if not job.readable:
        return Recovery(Action.FAIL, "its entry was lost and cannot be made anew")
    if job.status is JobStatus.QUEUING:
        # It was accepted while Redis was away, which is no fault of the job's.
        return Recovery(Action.REQUEUE, "the stream had not taken the job")
    if job.requeues >= limits.max_requeues:
        return Recovery(Action.FAIL, f"its entry was lost {job.requeues + 1} times")
    return Recovery(Action.REQUEUE, "its entry was lost")
