"""Confidence intervals of shares: Wilson's for one, Newcombe's for the difference of two.

E. B. Wilson, JASA 22 (1927) 209; R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10.
"""

import math
from dataclasses import dataclass
from typing import Final

#: Two-sided 95 per cent.
_Z: Final = 1.959964


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share; 0 of none."""
        return self.count / self.total if self.total else 0.0

    def interval(self) -> tuple[float, float]:
        """Return the bounds between which the true share lies, with 95 per cent confidence."""
        if not self.total:
            return 0.0, 1.0
        share, n = self.value, self.total
        centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        # At the ends the bounds are exact; floating point is not.
        low = 0.0 if self.count == 0 else max(centre - half, 0.0)
        high = 1.0 if self.count == n else min(centre + half, 1.0)
        return low, high


def surely_above(new: Share, old: Share) -> bool:
    """Whether `new` is above `old` by more than chance, with 97.5 per cent confidence."""
    difference = new.value - old.value
    low, _ = new.interval()
    _, high = old.interval()
    spread = math.sqrt((new.value - low) ** 2 + (high - old.value) ** 2)
    return difference - spread > 0
