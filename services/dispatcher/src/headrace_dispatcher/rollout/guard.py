"""Whether the new side of a roll-out is sick: a pure decision on the figures of both sides."""

from enum import StrEnum

from pydantic import BaseModel, Field

from headrace_dispatcher.rollout.figures import SideFigures
from headrace_dispatcher.rollout.state import RolloutPolicy
from headrace_dispatcher.rollout.statistics import Share, surely_above
from headrace_dispatcher.transports import TransportName


class Finding(StrEnum):
    """What one comparison came to."""

    FINE = "fine"
    WORSE = "worse"
    TOO_FEW = "too_few"  #: not enough of the new side's to say anything


class Check(BaseModel):
    """One thing that was compared."""

    name: str = Field(examples=["failures"])
    finding: Finding
    new: float | None = Field(description="The new side's share; of times, seconds")
    old: float | None = Field(description="The old side's; null where there is too little of it")
    samples: int = Field(description="Of the new side")
    margin: float = Field(
        description="Share above the old side's; of latencies, the ratio; of the circuit, seconds"
    )

    def told(self, side: TransportName) -> str:
        """Say it in a sentence for people."""
        if self.name == "circuit":
            return f"{side} is at fault for {self.new:.0f} s"
        if self.name == "latency":
            return f"{side} takes {self.new:.1f} s (p95), the other side {self.old or 0:.1f} s"
        other = "too few to compare with" if self.old is None else f"{self.old:.0%}"
        return f"{self.name} of {side}: {self.new:.0%} of {self.samples}, the other side's: {other}"


class Verdict(BaseModel):
    """What the guard thinks of the new side."""

    sick: bool
    reason: str | None
    checks: list[Check]


def judge(
    side: TransportName,
    new: SideFigures,
    old: SideFigures,
    policy: RolloutPolicy,
    *,
    fault_seconds: float = 0,
) -> Verdict:
    """Hold the new side against the old one, by what happened since the last change.

    A share is worse where it is above the old side's by more than its margin, and by more than
    chance. Where the old side has too few jobs, only a gross share counts.

    Args:
        side: the new one.
        new: its figures.
        old: the other side's, over the same time.
        policy: margins and minimum samples.
        fault_seconds: for so long the new side is at fault, and not the old one.
    """
    checks = [
        _share("failures", new.failures, old.failures, policy.failure_margin, policy),
        _share("refusals", new.refusals, old.refusals, policy.refused_margin, policy),
        _share("delays", new.delays, old.delays, policy.overdue_margin, policy),
        _latency(new, old, policy),
        _circuit(fault_seconds, policy),
    ]
    worse = [check for check in checks if check.finding is Finding.WORSE]
    return Verdict(
        sick=bool(worse),
        reason="; ".join(check.told(side) for check in worse) or None,
        checks=checks,
    )


def _share(name: str, new: Share, old: Share, margin: float, policy: RolloutPolicy) -> Check:
    alone = old.total < policy.min_samples
    if alone:
        old, margin = Share(0, new.total), max(margin, policy.alone_margin)
    finding = Finding.FINE
    if new.total < policy.min_samples:
        finding = Finding.TOO_FEW
    elif new.value - old.value > margin and surely_above(new, old):
        finding = Finding.WORSE
    return Check(
        name=name,
        finding=finding,
        new=new.value,
        old=None if alone else old.value,
        samples=new.total,
        margin=margin,
    )


def _latency(new: SideFigures, old: SideFigures, policy: RolloutPolicy) -> Check:
    p95, other = new.latency_p95_seconds, old.latency_p95_seconds
    finding = Finding.FINE
    enough = min(new.failures.total, old.failures.total) >= policy.min_samples
    if not enough or p95 is None or other is None:
        finding = Finding.TOO_FEW
    elif policy.latency_ratio is not None:
        slower = p95 - other > policy.latency_floor_seconds
        finding = Finding.WORSE if slower and p95 > other * policy.latency_ratio else Finding.FINE
    return Check(
        name="latency",
        finding=finding,
        new=p95,
        old=other,
        samples=new.failures.total,
        margin=policy.latency_ratio or 0,
    )


def _circuit(seconds: float, policy: RolloutPolicy) -> Check:
    """Judge a side that takes nothing at all: its jobs wait, so that there are no samples."""
    most = policy.circuit_seconds
    return Check(
        name="circuit",
        finding=Finding.WORSE if most is not None and seconds >= most else Finding.FINE,
        new=seconds,
        old=None,
        samples=0,
        margin=most or 0,
    )
