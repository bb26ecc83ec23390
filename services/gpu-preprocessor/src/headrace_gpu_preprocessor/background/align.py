"""Measures how far a shaking camera has moved, to a tenth of a pixel, and moves frames back.

Lucas and Kanade's method over the whole picture, on small grey copies. What moves by itself, the
traffic, differs from the reference and is left out of the sums. Shifts only: a camera on a mast
sways far more than it turns.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.estimate import median

Image = NDArray[np.uint8]
Grey = NDArray[np.float32]
Shift = tuple[float, float]

#: Width of the copies that are measured on; a shift is found to a fiftieth of their pixels.
_SMALL_WIDTH: Final = 320
#: So many frames are measured first: if they stand still, the camera does.
_PROBES: Final = 9
#: Smoothing of the copies for the first guess and for the measurement, in their pixels: the
#: rougher finds shifts of several pixels, the finer measures them.
_ROUGH_BLUR: Final = 3.0
_ROUNDS: Final = 8
_CONVERGED_PIXELS: Final = 0.01
#: Grey levels: a larger difference is traffic, not shake. Wide at first, then narrow.
_WIDE_LEVELS: Final = 25.0
_NARROW_LEVELS: Final = 10.0
#: Share of the picture that must follow the shift for it to be believed.
_MIN_FOLLOWING: Final = 0.3
#: A shift is believed if it leaves at most this share of the difference that there was.
_MIN_GAIN: Final = 0.97
#: Below this a frame stays as it is: moving it costs more sharpness than it brings.
STILL_PIXELS: Final = 0.12
#: A camera whose usual shift is less stands still; single larger shifts are then mistakes.
_STILL_CAMERA_PIXELS: Final = 0.2
#: A shift beyond this share of the width is no shake.
_MAX_SHARE: Final = 0.08


def steady(frames: Sequence[Image]) -> tuple[list[Image], float]:
    """Return the frames moved to the camera's middle position, and how far they were off.

    Args:
        frames: BGR, of one size.

    Returns:
        The frames, and their usual (median) shift in pixels; 0 for a camera that stands still.
    """
    probes = [shrink(frame) for frame in frames[:: max(1, len(frames) // _PROBES)]]
    scale = frames[0].shape[1] / probes[0].shape[1]
    reference = _Reference(_median_grey(probes))
    if _usual(_centred([reference.measure(grey) for grey in probes], scale)) < _STILL_CAMERA_PIXELS:
        return list(frames), 0.0
    small = [shrink(frame) for frame in frames]
    reference = _Reference(_median_grey(small))
    rough = [reference.measure(grey) or (0.0, 0.0) for grey in small]
    reference = _Reference(_median_grey([_moved(g, s) for g, s in zip(small, rough, strict=True)]))
    pairs = zip(small, rough, strict=True)
    shifts = _centred([reference.measure(grey, start) for grey, start in pairs], scale)
    moves = zip(frames, shifts, strict=True)
    return [move(frame, (float(x), float(y))) for frame, (x, y) in moves], _usual(shifts)


def measure(reference: Grey, grey: Grey, start: Shift = (0.0, 0.0)) -> Shift | None:
    """Return how far a picture is shifted against the reference, right and down, in its pixels.

    Args:
        reference: grey, as `shrink` makes it.
        grey: of the same size.
        start: a guess.

    Returns:
        None if no shift makes the pictures more alike, or too little of the picture follows it.
    """
    return _Reference(reference).measure(grey, start)


class _Reference:
    """A picture to measure against, with its gradients: as it is, and smoothed."""

    def __init__(self, grey: Grey) -> None:
        self._fine = _Level(grey)
        self._rough = _Level(_blurred(grey))

    def measure(self, grey: Grey, start: Shift = (0.0, 0.0)) -> Shift | None:
        guess = _descend(self._rough, _blurred(grey), start, narrow=False)
        found = _descend(self._fine, grey, guess or start, narrow=True)
        if found is None:
            return None
        still = _unlike(self._fine.grey, grey, (0.0, 0.0))
        return found if _unlike(self._fine.grey, grey, found) <= _MIN_GAIN * still else None


class _Level:
    def __init__(self, grey: Grey) -> None:
        self.grey = grey
        self.right = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
        self.down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)


def _centred(found: list[Shift | None], scale: float) -> NDArray[np.float64]:
    """Return shifts in full pixels, around the camera's middle position."""
    shifts = np.array([shift or (0.0, 0.0) for shift in found]) * scale
    return np.asarray(shifts - np.median(shifts, axis=0))


def _usual(shifts: NDArray[np.float64]) -> float:
    return float(np.median(np.hypot(shifts[:, 0], shifts[:, 1])))


def _descend(level: _Level, grey: Grey, start: Shift, *, narrow: bool) -> Shift | None:
    right, down = level.right, level.down
    x, y = start
    limit = _MAX_SHARE * grey.shape[1]
    for number in range(_ROUNDS):
        difference = _moved(grey, (x, y)) - level.grey
        levels = _NARROW_LEVELS if narrow and number > 1 else _WIDE_LEVELS
        weight = (np.abs(difference) < levels).astype(np.float32)
        if weight.mean() < _MIN_FOLLOWING:
            return None
        gx, gy = right * weight, down * weight
        across = np.vdot(gx, down)
        matrix = np.array([[np.vdot(gx, right), across], [across, np.vdot(gy, down)]])
        if np.linalg.cond(matrix) > 1e6:  # a plain picture has nothing to hold on to
            return None
        step = np.linalg.solve(matrix, np.array([np.vdot(gx, difference), np.vdot(gy, difference)]))
        x, y = x - float(step[0]), y - float(step[1])
        if abs(x) > limit or abs(y) > limit:
            return None
        if np.abs(step).max() < _CONVERGED_PIXELS:
            break
    return x, y


def _unlike(reference: Grey, grey: Grey, shift: Shift) -> float:
    """Return the mean difference after undoing a shift, with traffic counted as a constant."""
    difference = np.abs(_moved(grey, shift) - reference)
    return float(np.minimum(difference, _NARROW_LEVELS).mean())


def _blurred(grey: Grey) -> Grey:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), _ROUGH_BLUR), dtype=np.float32)


def move(frame: Image, shift: Shift) -> Image:
    """Undo a shift; a very small one is left."""
    if max(abs(shift[0]), abs(shift[1])) < STILL_PIXELS:
        return frame
    back = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]], np.float32)
    size = (frame.shape[1], frame.shape[0])
    moved = cv2.warpAffine(
        frame, back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.uint8)


def shrink(frame: Image) -> Grey:
    """Return the small grey copy to measure on, lightly smoothed."""
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    if width > _SMALL_WIDTH:
        size = (_SMALL_WIDTH, max(1, round(height * _SMALL_WIDTH / width)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.8), dtype=np.float32)


def _moved(grey: Grey, shift: Shift) -> Grey:
    back = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]], np.float32)
    size = (grey.shape[1], grey.shape[0])
    moved = cv2.warpAffine(
        grey, back, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.float32)


def _median_grey(greys: list[Grey]) -> Grey:
    return median([np.rint(grey).astype(np.uint8) for grey in greys]).astype(np.float32)
