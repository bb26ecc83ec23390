"""Counting over a stack of samples, with NumPy: the exact median, and the mean near a centre.

A median is found bit by bit: each pass compares the whole stack with a candidate and counts. A
guess from nine samples narrows it to eight values in two passes; the places where it misses are
searched from the top. `torch_counting` has the same for a GPU.
"""

import math
import threading
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Bytes: samples x values of a piece of picture.
Stack = NDArray[np.uint8]
Row = NDArray[np.uint8]

#: Grey levels within which a sample is the road too: noise of four standard deviations.
NEAR_LEVELS: Final = 12
_ALL_BITS: Final = (128, 64, 32, 16, 8, 4, 2, 1)
_WINDOW_BITS: Final = (4, 2, 1)
_WINDOW: Final = 8
#: Below this share of hits the window is not worth its passes.
_WORTH_A_WINDOW: Final = 0.8
#: The offsets of so many samples, at most 2 * NEAR_LEVELS each, add up in a byte.
_BYTE_SUMS: Final = 255 // (2 * NEAR_LEVELS)
#: A network that leaves the middle of nine at place 4 (Paeth, Graphics Gems, 1990).
_MIDDLE_OF_NINE: Final = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3), (5, 8), (4, 7),
    (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip


class NumpyCounting:
    """Works on pieces that stay in the processor's cache; each thread has its own scratch."""

    #: Rows of a picture that make a piece.
    rows = 8

    def __init__(self) -> None:
        """Make one; it may be shared between threads."""
        self._own = threading.local()

    def _scratch(self, shape: tuple[int, ...]) -> Stack:
        """Return memory like a stack: taking it anew from the system each time would cost more."""
        size = math.prod(shape)
        kept: Stack | None = getattr(self._own, "scratch", None)
        if kept is None or kept.size < size:
            kept = self._own.scratch = np.empty(size, np.uint8)
        return kept[:size].reshape(shape)

    def median(self, stack: Stack) -> Row:
        """Return the lower median of each column, exactly."""
        half = (len(stack) - 1) // 2
        scratch = self._scratch(stack.shape)
        start = _window_start(stack)
        inside = _below(stack, start, scratch) <= half
        inside &= _below(stack, start + np.uint8(_WINDOW), scratch) > half
        if np.count_nonzero(inside) < _WORTH_A_WINDOW * inside.size:
            return _search(stack, np.zeros_like(start), _ALL_BITS, half, scratch)
        found = _search(stack, start, _WINDOW_BITS, half, scratch)
        missed = np.flatnonzero(~inside)
        if missed.size:
            rest = np.take(stack, missed, axis=1)
            found[missed] = _search(
                rest, np.zeros_like(rest[0]), _ALL_BITS, half, np.empty_like(rest)
            )
        return found

    def mean_near(self, stack: Stack, centre: Row) -> tuple[Row, Row]:
        """Return the mean of the samples near a centre, itself where none is, and their count."""
        low = np.maximum(centre, NEAR_LEVELS) - np.uint8(NEAR_LEVELS)
        high = np.minimum(centre, 255 - NEAR_LEVELS) + np.uint8(NEAR_LEVELS)
        offsets, near = self._scratch((2, *stack.shape))
        np.subtract(stack, low, out=offsets)  # wraps below, and is too large then
        np.less_equal(offsets, high - low, out=near.view(np.bool_))
        count: Row = np.add.reduce(near, axis=0, dtype=np.uint8)
        np.multiply(offsets, near, out=offsets)
        total = np.zeros(centre.shape, np.uint16)
        for first in range(0, len(stack), _BYTE_SUMS):
            total += np.add.reduce(offsets[first : first + _BYTE_SUMS], axis=0, dtype=np.uint8)
        divisor = np.maximum(count, 1).astype(np.uint16)
        mean: Row = low + ((total + divisor // 2) // divisor).astype(np.uint8)
        np.copyto(mean, centre, where=count == 0)
        return mean, count


def _search(stack: Stack, start: Row, bits: Iterable[int], half: int, scratch: Stack) -> Row:
    """Add each bit that leaves at most half of the samples below."""
    found = start.copy()
    for bit in bits:
        candidate = found + np.uint8(bit)
        np.copyto(found, candidate, where=_below(stack, candidate, scratch) <= half)
    return found


def _below(stack: Stack, level: Row, scratch: Stack) -> Row:
    np.less(stack, level, out=scratch.view(np.bool_))
    return np.asarray(np.add.reduce(scratch, axis=0, dtype=np.uint8), dtype=np.uint8)


def _window_start(stack: Stack) -> Row:
    """Return where the window of values begins that should hold the median."""
    chosen = np.linspace(0, len(stack) - 1, 9).astype(int)
    samples = [stack[number] for number in chosen]
    for first, second in _MIDDLE_OF_NINE:
        smaller = np.minimum(samples[first], samples[second])
        samples[second] = np.maximum(samples[first], samples[second])
        samples[first] = smaller
    lowest = np.maximum(samples[4], _WINDOW // 2) - np.uint8(_WINDOW // 2)
    start: Row = np.minimum(lowest, np.uint8(255 - _WINDOW))
    return start
