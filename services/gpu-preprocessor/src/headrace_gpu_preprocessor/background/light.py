"""The light between two pictures of one place: a gain and an offset for each colour."""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

#: Every so many pixels each way take part: enough for two numbers.
_STEP: Final = 4
_ROUNDS: Final = 4
#: Fewer pixels than this make no fit.
_MIN_PIXELS: Final = 200
#: Beyond these a fit is nonsense: night against day.
_GAINS: Final = (0.4, 2.5)


@dataclass(frozen=True)
class Light:
    """How bright the present is beside the past.

    Attributes:
        gain: by colour, BGR.
        offset: by colour, grey levels.
        likeness: 1 for the same light, 0 for one that cannot be compared.
    """

    gain: tuple[float, float, float]
    offset: tuple[float, float, float]
    likeness: float

    def apply(self, picture: Image) -> Image:
        """Bring a picture of the past into the light of the present."""
        levels = np.arange(256)[:, None] * np.array(self.gain) + np.array(self.offset)
        table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(picture, table[None]), dtype=np.uint8)


def fit_light(past: Image, present: Image, sure: NDArray[np.bool_]) -> Light:
    """Fit the light on pixels that the clip is sure of, leaving out what has changed.

    Returns:
        The fit; with likeness 0 if there is too little to fit it on.
    """
    chosen = sure[::_STEP, ::_STEP]
    before = past[::_STEP, ::_STEP][chosen].astype(np.float64)
    after = present[::_STEP, ::_STEP][chosen].astype(np.float64)
    if len(before) < _MIN_PIXELS:
        return Light((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.0)
    fits = [_fit(before[:, channel], after[:, channel]) for channel in range(3)]
    gains = (fits[0][0], fits[1][0], fits[2][0])
    offsets = (fits[0][1], fits[1][1], fits[2][1])
    if any(not _GAINS[0] <= gain <= _GAINS[1] for gain in gains):
        return Light((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.0)
    # The change at middle grey, in doublings: twice as bright is not alike at all.
    ratio = sum((gain * 128 + offset) / 128 for gain, offset in fits) / 3
    likeness = max(0.0, 1.0 - abs(math.log2(max(ratio, 1e-3))))
    return Light(gains, offsets, likeness)


def _fit(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """Fit a line by least squares, in rounds that drop what is far from it."""
    # The middle of the ratios: in a jam up to half of the pixels may show something else.
    ratio = float(np.median(after / np.maximum(before, 1.0)))
    gain, offset = ratio, 0.0
    for _ in range(_ROUNDS):
        away = np.abs(after - (gain * before + offset))
        kept = away <= max(6.0, 2.0 * float(np.median(away)))
        if kept.sum() < _MIN_PIXELS // 2 or np.ptp(before[kept]) < 10:
            return ratio, 0.0
        gain, offset = _line(before[kept], after[kept])
    # No line fits another view; whether the two agree is for the caller to find.
    return (gain, offset) if _GAINS[0] <= gain <= _GAINS[1] else (ratio, 0.0)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and offset by least squares, where x is not the same everywhere."""
    x_middle, y_middle = float(x.mean()), float(y.mean())
    away = x - x_middle
    # Not by dot: BLAS would start threads for it, which wait for each other on a busy machine.
    slope = float((away * (y - y_middle)).sum() / (away * away).sum())
    return slope, y_middle - slope * x_middle
