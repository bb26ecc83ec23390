"""How bad a damage is: a rule of thumb from its class, its size on the road, and the score.

The rule is in docs/reference/damage.md; change both together. A box is not a crack's width or
depth, which a picture of a road from a mast does not have: the levels say what to look at first.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """From what can wait to what should be looked at first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Its place in the order, from 0."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class _Rule:
    """Sizes from which a class is medium and high, in widths of the road at the place.

    Attributes:
        by_length: the size is the longer side of the box; else the root of its area.
    """

    medium: float
    high: float
    by_length: bool


_RULES: Final = {
    "D00": _Rule(0.20, 0.50, by_length=True),
    "D10": _Rule(0.15, 0.40, by_length=True),
    "D20": _Rule(0.10, 0.25, by_length=False),
    "D40": _Rule(0.04, 0.10, by_length=False),
}
#: For classes of other models.
_OTHER: Final = _Rule(0.10, 0.25, by_length=False)
#: Share of the way from the threshold to 1 below which a score is doubtful, and never high.
DOUBTFUL: Final = 0.2


def severity(
    label: str, *, width: float, height: float, road_width: float, score: float, threshold: float
) -> Severity:
    """Judge one damage.

    Args:
        label: of its class.
        width: of its box, in pixels.
        height: of its box, in pixels.
        road_width: of the road where the box is, in pixels: it grows towards the camera as the
            damage does, so that the ratio does not depend much on how far away it is.
        score: of the detection.
        threshold: lowest score that counts.
    """
    rule = _RULES.get(label, _OTHER)
    size = max(width, height) if rule.by_length else (width * height) ** 0.5
    share = size / max(1.0, road_width)
    if share < rule.medium:
        return Severity.LOW
    doubtful = score < threshold + DOUBTFUL * (1 - threshold)
    return Severity.MEDIUM if share < rule.high or doubtful else Severity.HIGH
