"""The three lanes a job can wait in, strictly preferred in the order they are declared."""

from enum import StrEnum
from typing import Final


class Lane(StrEnum):
    """How soon a job wants to be looked at; also the wire value of `priority`."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def queue_name(self) -> str:
        """The lane's Dramatiq queue."""
        return LANE_QUEUES[self]

    @property
    def rank(self) -> int:
        """0 for the lane that is served first."""
        return list(Lane).index(self)


# Requirement A3. Dramatiq's own `priority` orders only what a worker has prefetched, so
# that strictness needs one queue a lane.
LANE_QUEUES: Final[dict[Lane, str]] = {
    Lane.HIGH: "high_priority",
    Lane.NORMAL: "audio_analysis",
    Lane.LOW: "low_priority",
}
