"""Validation images that the training images do not give away.

The published split of road-crack-4class is by chance over frames of a few videos: two thirds of its
validation images show the very damage of a training image, a few metres on. Figures on those
measure memory. This module leaves them out.
"""

import re
from collections import defaultdict

from road_damage.dataset import Sample

FRAME_GAP = 5
"""Frames of a series closer than this overlap, by the look of them."""

SINGLE_PHOTOGRAPHS = "img-"
"""This series is a collection of photographs, not a video: neighbours have nothing in common."""

NUMBERED = re.compile(r"(?P<series>.*?)(?P<number>\d+)\.jpg")


def place_in_series(name: str) -> tuple[str, int] | None:
    """The series and frame number that a sample's name tells, or none.

    Leading zeros count to the series: `00089` and `89` are not the same video.
    """
    found = NUMBERED.fullmatch(name)
    if found is None or found["series"].endswith(SINGLE_PHOTOGRAPHS):
        return None
    digits = found["number"]
    padded = len(digits) if digits.startswith("0") or len(digits) >= 5 else 0
    return f"{found['series']}{padded}", int(digits)


def apart(samples: list[Sample], training: list[Sample]) -> list[Sample]:
    """The samples without a training image of the same series closer than `FRAME_GAP` frames."""
    taken: dict[str, set[int]] = defaultdict(set)
    for sample in training:
        if place := place_in_series(sample.name):
            taken[place[0]].add(place[1])
    return [sample for sample in samples if not _is_near(sample.name, taken)]


def _is_near(name: str, taken: dict[str, set[int]]) -> bool:
    place = place_in_series(name)
    if place is None:
        return False
    series, number = place
    return any(number + gap in taken[series] for gap in range(-FRAME_GAP + 1, FRAME_GAP))
