"""From a load to what it needs, and to what runs out first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace_capacity.fit import Costs, fit
from headrace_capacity.limits import Part, Usage, usages
from headrace_capacity.load import Limits, Load, Plan
from headrace_capacity.measurement import Measurement
from headrace_capacity.need import Need, need_of

#: Loads that are tried, as multiples: what bears more than the last is no concern.
_TIMES: Final = np.logspace(-2, 2, 33)


@dataclass(frozen=True)
class Capacity:
    """What a load needs.

    Attributes:
        parts: what runs out first at the top.
    """

    load: Load
    plan: Plan
    need: Need
    parts: Sequence[Part]


def plan_for(
    load: Load,
    measured: Measurement,
    *,
    plan: Plan | None = None,
    limits: Limits | None = None,
    costs: Costs | None = None,
) -> Capacity:
    """Compute what a load needs.

    Args:
        load: that is expected.
        measured: what pieces of work cost.
        plan: how much is kept free, and so on; the defaults unless given.
        limits: of the parts.
        costs: of `measured`, where they were fitted before.
    """
    plan, limits, costs = plan or Plan(), limits or Limits(), costs or fit(measured)

    def used(multiple: float) -> tuple[Need, Sequence[Usage]]:
        more = scaled(load, multiple)
        need = need_of(more, plan, measured, costs)
        return need, usages(need, more, plan, limits, measured, costs)

    need, here = used(1.0)
    shares: dict[str, list[float]] = {usage.name: [] for usage in here}
    for multiple in _TIMES:
        for usage in used(float(multiple))[1]:
            shares[usage.name].append(usage.share)
    parts = [Part(usage, _crossing(shares[usage.name])) for usage in here]
    return Capacity(load, plan, need, sorted(parts, key=lambda part: part.times))


def scaled(load: Load, multiple: float) -> Load:
    """Return so many times the jobs and the cameras."""
    more = {"jobs_per_day": load.jobs_per_day * multiple, "cameras": load.cameras * multiple}
    return load.model_copy(update=more)


def _crossing(shares: Sequence[float]) -> float:
    """Return the multiple of the load at which a share comes to 1; infinite beyond all of them.

    Pods come in whole numbers, and some cost what they cost without work, so that this is no
    mere division. Between two loads it is interpolated by powers.
    """
    above = next((number for number, share in enumerate(shares) if share > 1), None)
    if above is None:
        return float("inf")
    if above == 0:
        return 0.0
    two = np.log([shares[above - 1], shares[above]])
    return float(np.exp(np.interp(0.0, two, np.log(_TIMES[above - 1 : above + 1]))))
