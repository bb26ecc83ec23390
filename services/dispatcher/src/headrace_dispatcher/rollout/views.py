"""What the roll-out's API answers."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from headrace_common.db import ShadowRun
from headrace_dispatcher.rollout.figures import ShadowFigures, SideFigures
from headrace_dispatcher.rollout.guard import Verdict
from headrace_dispatcher.rollout.state import RolloutState
from headrace_dispatcher.transports import TransportName


class RolloutView(RolloutState):
    """How jobs are divided, and between what."""

    transports: list[TransportName] = Field(description="Those that are configured")


class Comparison(BaseModel):
    """Both sides side by side."""

    since: datetime
    sqs_percent: float
    sqs: SideFigures
    http: SideFigures
    shadow: ShadowFigures
    verdict: Verdict | None = Field(
        description="What the guard thinks of the new side, by what happened since the last "
        "change; null while nothing is tried"
    )


class ShadowView(BaseModel):
    """One copy, and how its answer compares."""

    job_id: str
    run: int
    transport: TransportName = Field(description="The side that the copy went to")
    created_at: datetime
    sent_at: datetime | None
    send_error: str | None
    answered_at: datetime | None
    status: str | None = Field(description="completed or failed, once it answered")
    result: dict[str, Any] | None
    error_code: str | None
    same: bool | None = Field(description="Whether it equals the job's own; null: not compared")
    differences: dict[str, Any] | None = Field(
        description="`listed`: JSON pointer, `own` and `shadow` value; `more`: whether that is all"
    )

    @classmethod
    def of(cls, run: ShadowRun) -> "ShadowView":
        """Show a row."""
        return cls.model_validate({name: getattr(run, name) for name in cls.model_fields})
