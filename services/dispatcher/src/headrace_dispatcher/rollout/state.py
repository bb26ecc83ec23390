"""What the roll-out is set to: values, and the rules by which they change. No I/O."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from headrace_dispatcher.transports import TransportName

#: The whole of it.
ALL: Final = 100.0

Percent = Annotated[float, Field(ge=0, le=ALL, description="0 to 100, in steps of 0.01")]
Share = Annotated[float, Field(ge=0, le=1)]


class Source(StrEnum):
    """What decides."""

    ENVIRONMENT = "environment"  #: USE_SQS_QUEUE
    ROLLOUT = "rollout"  #: what was set at run time


class RolloutPolicy(BaseModel):
    """When the new side of a roll-out counts as sick. Shares are between 0 and 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_samples: int = Field(
        default=20, ge=1, le=1_000_000, description="Nothing is judged by fewer"
    )
    window_seconds: float = Field(
        default=900, ge=10, le=86_400, description="How far back is looked; never past a change"
    )
    failure_margin: Share = Field(
        default=0.05, description="Share of failed jobs above the old side's"
    )
    refused_margin: Share = Field(
        default=0.2, description="Share of attempts that the side refused, above the old side's"
    )
    blocked_seconds: float = Field(
        default=30,
        ge=0,
        le=86_400,
        description="A job that waits for so long because its side is at fault counts as refused",
    )
    circuit_seconds: float | None = Field(
        default=60,
        gt=0,
        le=86_400,
        description="A side that was at fault for so long without a break, while the old one is "
        "not, is sick however few jobs it got; null: not judged",
    )
    overdue_margin: Share = Field(
        default=0.1, description="Share of overdue jobs above the old side's"
    )
    overdue_seconds: float = Field(
        default=300, gt=0, le=86_400, description="A job without its end for so long is overdue"
    )
    latency_ratio: float | None = Field(
        default=3, gt=1, description="p95 of the new side over the old side's; null: not judged"
    )
    latency_floor_seconds: float = Field(
        default=5, ge=0, description="A difference in p95 below this is none"
    )
    alone_margin: Share = Field(
        default=0.5,
        description="The margin where the old side has too few jobs to compare with, and any "
        "share is held against none",
    )


class RolloutState(BaseModel):
    """How jobs are divided now, since when and by whom."""

    model_config = ConfigDict(frozen=True)

    source: Source = Field(description="What decides: the environment, until somebody sets more")
    sqs_percent: Percent
    shadow_percent: Percent
    new_side: TransportName | None = Field(
        description="The side that is tried and watched; null: none is"
    )
    rolled_back: TransportName | None = Field(
        description="The side that all jobs were taken from, until somebody gives it some again"
    )
    auto_rollback: bool
    policy: RolloutPolicy
    version: int = Field(ge=0, description="Counts changes; 0 while nothing was set")
    reason: str | None
    changed_by: str | None
    changed_at: datetime | None


class RolloutChange(BaseModel):
    """What is to be set; what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sqs_percent: Percent | None = None
    shadow_percent: Percent | None = None
    auto_rollback: bool | None = None
    policy: RolloutPolicy | None = Field(default=None, description="The whole policy anew")
    reason: Annotated[str, Field(max_length=500)] | None = None
    version: int | None = Field(
        default=None, ge=0, description="Refused with 409 unless this is the present version"
    )


def from_environment(*, use_sqs: bool) -> RolloutState:
    """Return what the setting alone says."""
    return RolloutState(
        source=Source.ENVIRONMENT,
        sqs_percent=ALL if use_sqs else 0,
        shadow_percent=0,
        new_side=None,
        rolled_back=None,
        auto_rollback=True,
        policy=RolloutPolicy(),
        version=0,
        reason=None,
        changed_by=None,
        changed_at=None,
    )


def new_side_after(state: RolloutState, sqs_percent: float) -> TransportName | None:
    """Return which side is tried once `sqs_percent` is set.

    Who leaves 0 per cent tries SQS, who leaves 100 per cent tries HTTP; on the way between, back
    and forth, that stays. All on the side that was left, and nothing is tried.
    """
    if sqs_percent == state.sqs_percent:
        return state.new_side
    tried = state.new_side
    if state.sqs_percent in {0, ALL}:
        tried = TransportName.SQS if sqs_percent > state.sqs_percent else TransportName.HTTP
    return None if tried is None or sqs_percent == percent_without(tried) else tried


def percent_without(side: TransportName) -> float:
    """Return the percentage by which no job goes to `side`."""
    return 0 if side is TransportName.SQS else ALL


def changed(state: RolloutState, change: RolloutChange) -> RolloutState:
    """Return the state with a change made; who and when are the row's affair."""
    percent = state.sqs_percent if change.sqs_percent is None else change.sqs_percent
    return state.model_copy(
        update={
            "sqs_percent": percent,
            "shadow_percent": state.shadow_percent
            if change.shadow_percent is None
            else change.shadow_percent,
            "new_side": new_side_after(state, percent),
            "rolled_back": state.rolled_back if percent == state.sqs_percent else None,
            "auto_rollback": state.auto_rollback
            if change.auto_rollback is None
            else change.auto_rollback,
            "policy": change.policy or state.policy,
            "reason": change.reason,
        }
    )


def rolled_back(state: RolloutState, side: TransportName, reason: str) -> RolloutState:
    """Return the state in which `side` gets nothing any more, not even copies."""
    return state.model_copy(
        update={
            "sqs_percent": percent_without(side),
            "shadow_percent": 0,
            "new_side": None,
            "rolled_back": side,
            "reason": reason,
        }
    )
