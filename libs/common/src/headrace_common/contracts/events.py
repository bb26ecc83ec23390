"""A job's timeline as clients, the database and Redis carry it."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from headrace_common.contracts.jobs import JobStatus

#: The one Redis channel that every process publishes job events on.
EVENTS_CHANNEL: Final = "headrace:job-events"


class EventType(StrEnum):
    """What an entry of the timeline tells."""

    STATUS = "status"
    PROGRESS = "progress"
    #: Somebody asked for the job to be done anew. Only this takes a status backwards.
    RESTARTED = "restarted"
    #: Something arrived late or twice; it was recorded and changed nothing.
    IGNORED = "ignored"
    #: The place in the lane of a job that waits. Live only: not stored, has no id.
    QUEUE_POSITION = "queue_position"


class JobEvent(BaseModel):
    """One entry of a job's timeline.

    `sequence` counts from 1 without gaps within a job and is the SSE event id.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    sequence: int = Field(ge=1)
    type: EventType
    status: JobStatus = Field(description="The job's status after the event")
    progress: int = Field(ge=0, le=100, description="The job's progress after the event, per cent")
    message: str = Field(description="For people")
    data: dict[str, JsonValue] = Field(default_factory=dict, description="What the event adds")
    created_at: datetime
