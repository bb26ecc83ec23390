"""Dramatiq messages: actor names, queues and payloads, so that no sender imports an actor."""

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from headrace_common.contracts.lanes import Lane

#: Queue of the results service's own work.
APPLY_REPORT_QUEUE: Final = "analysis_reports"


class ActorName(StrEnum):
    """Every actor that can be sent to.

    There is one dispatch actor a lane: a worker's order between queues is the actor's priority.
    """

    DISPATCH_HIGH = "job.dispatch.high"
    DISPATCH_NORMAL = "job.dispatch.normal"
    DISPATCH_LOW = "job.dispatch.low"
    APPLY_REPORT = "analysis_report.apply"


def dispatch_actor(lane: Lane) -> ActorName:
    """Return the name of the actor that dispatches the jobs of `lane`."""
    return ActorName(f"job.dispatch.{lane.value}")


class DispatchJob(BaseModel):
    """Keyword arguments of the dispatch actors."""

    model_config = ConfigDict(frozen=True)

    job_id: str


class ApplyReport(BaseModel):
    """Keyword arguments of the actor that applies one row of the webhook inbox."""

    model_config = ConfigDict(frozen=True)

    inbox_id: int
