"""Who did which piece of work when, and what follows from it. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: A rate is taken between these shares of a batch, so that neither its start nor its last pieces,
#: when some replicas have nothing to do any more, count.
_FROM: Final = 0.2
_TO: Final = 0.8


@dataclass(frozen=True)
class Doing:
    """A piece of work that was done.

    Attributes:
        item: which.
        replica: name of who did it.
        at: when it was done, in seconds since 1970.
    """

    item: str
    replica: str
    at: float


def rate(doings: Sequence[Doing], *, since: float | None = None) -> float:
    """Return how many pieces were done in a second, in the middle of a batch.

    Args:
        doings: of the batch.
        since: when it began, in seconds since 1970: then the whole of it counts.
    """
    times = sorted(doing.at for doing in doings)
    if since is not None:
        return len(times) / (times[-1] - since) if times else 0.0
    first, last = int(_FROM * len(times)), int(_TO * len(times))
    if last <= first or times[last] <= times[first]:
        return 0.0
    return (last - first) / (times[last] - times[first])


def shares(doings: Sequence[Doing], replicas: Sequence[str]) -> dict[str, float]:
    """Return which part of the work each replica did."""
    counts = Counter(doing.replica for doing in doings)
    return {name: counts[name] / max(1, len(doings)) for name in replicas}


def fairness(values: Sequence[float]) -> float:
    """Return Jain's index of what each got: 1 is the same for all, 1/n all for one of n.

    Source: Jain, Chiu, Hawe: A quantitative measure of fairness, DEC-TR-301, 1984.
    """
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def twice(doings: Sequence[Doing]) -> list[str]:
    """Return what was done more than once."""
    return [item for item, count in Counter(doing.item for doing in doings).items() if count > 1]
