"""What the model says of a mix that it was not fitted to, beside what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_capacity.fit import Costs, fit
from headrace_capacity.measurement import (
    COMMANDS,
    COMMITS,
    POSTGRES,
    REDIS,
    SQS,
    SWIFT,
    WAL_BYTES,
    WRITES,
    Measurement,
    Service,
    Work,
    cpu_of,
)
from headrace_capacity.requests import SqsTraffic

#: Processor time depends on the neighbours of a shared machine; counts do not.
_CPU_BOUND: Final = 0.35
_COUNT_BOUND: Final = 0.20
#: Largest relative error, by resource; a name with a dot at its end means the sum of all of them.
BOUNDS: Final = {
    **{cpu_of(service): _CPU_BOUND for service in Service},
    cpu_of(POSTGRES): _CPU_BOUND,
    cpu_of(REDIS): _CPU_BOUND,
    # Counted late: see measurement.
    COMMITS: 0.25,
    WAL_BYTES: _COUNT_BOUND,
    COMMANDS: _COUNT_BOUND,
    WRITES: _COUNT_BOUND,
    SWIFT: _COUNT_BOUND,
}
#: Which polls find something is a matter of the moment.
_SQS_BOUND: Final = 0.35
_HELD: Final = "Redis bytes of a waiting job"
_HELD_BOUND: Final = 0.20


@dataclass(frozen=True)
class Compared:
    """One figure of the mix.

    Attributes:
        bound: largest relative error that is allowed.
    """

    name: str
    predicted: float
    measured: float
    bound: float

    @property
    def error(self) -> float:
        """How much too high the prediction is, relative to what was measured."""
        return self.predicted / self.measured - 1 if self.measured else float("inf")


def compare(measured: Measurement) -> Sequence[Compared]:
    """Predict the mix from the phases that were fitted, and hold it against what was measured."""
    costs = fit(measured)
    found = [
        Compared(name.rstrip("."), _predicted(costs, measured, name), _used(measured, name), bound)
        for name, bound in BOUNDS.items()
    ]
    held = measured.held.redis_bytes_per_waiting_job
    return [
        *found,
        Compared("sqs", _sqs(measured), _used(measured, SQS), _SQS_BOUND),
        Compared(_HELD, held, measured.held_proof, _HELD_BOUND),
    ]


def failures(compared: Sequence[Compared]) -> Sequence[str]:
    """Return a line for each prediction that misses by more than its bound."""
    return [
        f"{each.name}: {each.error:+.0%}, at most {each.bound:.0%}"
        for each in compared
        if abs(each.error) > each.bound
    ]


def table(compared: Sequence[Compared]) -> str:
    """Return the comparison as a table in Markdown."""
    lines = ["| | predicted | measured | error | bound |", "|---|---|---|---|---|"]
    lines += [
        f"| {each.name} | {each.predicted:.4g} | {each.measured:.4g} | {each.error:+.0%} "
        f"| {each.bound:.0%} |"
        for each in compared
    ]
    return "\n".join(lines)


def _sqs(measured: Measurement) -> float:
    proof = measured.proof
    traffic = SqsTraffic(
        jobs_per_second=proof.work[Work.JOB_SQS] / proof.seconds,
        dispatchers=proof.pods[Service.DISPATCHER],
        results=proof.pods[Service.RESULTS],
        analysis_servers=proof.pods[Service.ANALYSIS],
        keda=False,
    )
    return sum(traffic.per_second().values()) * proof.seconds


def _predicted(costs: Costs, measured: Measurement, name: str) -> float:
    return sum(costs.predict(each, measured.proof) for each in _meant(costs.resources, name))


def _used(measured: Measurement, name: str) -> float:
    used = measured.proof.used
    return sum(used[each] for each in _meant(list(used), name))


def _meant(names: Sequence[str], name: str) -> Sequence[str]:
    return [each for each in names if each == name or (name[-1] == "." and each.startswith(name))]
