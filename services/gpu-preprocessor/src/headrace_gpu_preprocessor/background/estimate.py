"""The exact median of many frames, then the mean of the samples near it.

The picture goes by in pieces of a few rows: a stack of all samples, small enough for the
processor's cache, or large enough for a GPU. Pieces are counted on two threads; NumPy lets go of
the interpreter meanwhile.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.counting import NEAR_LEVELS, NumpyCounting
from headrace_gpu_preprocessor.background.device import Counting

__all__ = [
    "CONFIDENT_SHARE",
    "MAX_FRAMES",
    "NEAR_LEVELS",
    "Estimate",
    "estimate",
    "median",
    "votes",
]

Image = NDArray[np.uint8]
Share = NDArray[np.float32]

#: Counters are bytes.
MAX_FRAMES: Final = 255
#: Share of the samples near the result below which it is not the road. It marked all wrong pixels
#: and 0.1 % of the right ones.
CONFIDENT_SHARE: Final = 0.45
#: Share of the samples near the median from which their mean is the better estimate. With fewer,
#: two things share the place, and if the median is the wrong one the mean is more so.
_MEAN_SHARE: Final = 0.8
_THREADS: Final = 2
_NUMPY: Final = NumpyCounting()


@dataclass(frozen=True)
class Estimate:
    """What most samples show.

    Attributes:
        picture: BGR.
        support: share of the samples that are near it, by pixel.
    """

    picture: Image
    support: Share


def estimate(frames: Sequence[Image], counting: Counting = _NUMPY) -> Estimate:
    """Return the background of frames of one size; where few samples agree, their median.

    Args:
        frames: BGR.
        counting: what counts; all give the same result, to the bit.

    Raises:
        ValueError: no frames, or more than bytes can count.
    """
    picture = np.empty_like(frames[0]) if frames else np.empty(0, np.uint8)
    support = np.empty(picture.shape[:2], np.float32)

    def piece(rows: slice, stack: Image) -> None:
        middle = counting.median(stack)
        mean, count = counting.mean_near(stack, middle)
        share = _weakest_channel(count) / np.float32(len(frames))
        support[rows] = share.reshape(support[rows].shape)
        clear = np.repeat(share >= _MEAN_SHARE, 3)
        picture[rows] = np.where(clear, mean, middle).reshape(picture[rows].shape)

    _each_piece(frames, counting, piece)
    return Estimate(picture, support)


def median(frames: Sequence[Image], counting: Counting = _NUMPY) -> Image:
    """Return the lower median of each pixel, exactly."""
    picture = np.empty_like(frames[0]) if frames else np.empty(0, np.uint8)

    def piece(rows: slice, stack: Image) -> None:
        picture[rows] = counting.median(stack).reshape(picture[rows].shape)

    _each_piece(frames, counting, piece)
    return picture


def votes(
    frames: Sequence[Image],
    centre: Image,
    counting: Counting = _NUMPY,
    *,
    where: NDArray[np.bool_] | None = None,
) -> Estimate:
    """Return the mean of the samples that are near a given picture, and how many are.

    Where none is, the picture itself.

    Args:
        frames: BGR.
        centre: the picture.
        counting: what counts.
        where: pixels that matter; rows without one are left as if no sample were near.
    """
    picture = centre.copy()
    support = np.zeros(centre.shape[:2], np.float32)
    rows_wanted = None if where is None else np.asarray(where.any(axis=1), dtype=np.bool_)

    def piece(rows: slice, stack: Image) -> None:
        mean, count = counting.mean_near(stack, centre[rows].reshape(-1))
        picture[rows] = mean.reshape(picture[rows].shape)
        share = _weakest_channel(count) / np.float32(len(frames))
        support[rows] = share.reshape(support[rows].shape)

    _each_piece(frames, counting, piece, rows_wanted)
    return Estimate(picture, support)


def _each_piece(
    frames: Sequence[Image],
    counting: Counting,
    piece: Callable[[slice, Image], None],
    rows_wanted: NDArray[np.bool_] | None = None,
) -> None:
    """Call for each piece with its rows and its stack; each thread fills one stack anew."""
    if not 0 < len(frames) <= MAX_FRAMES:
        raise ValueError(f"{len(frames)} frames: between 1 and {MAX_FRAMES} make a background")
    height, rows = frames[0].shape[0], counting.rows
    length = frames[0][:rows].size
    own = threading.local()

    def run(top: int) -> None:
        if not hasattr(own, "stack"):
            own.stack = np.empty((len(frames), length), np.uint8)
        where = slice(top, min(top + rows, height))
        if rows_wanted is not None and not rows_wanted[where].any():
            return
        stack = own.stack[:, : frames[0][where].size]
        for sample, frame in zip(stack, frames, strict=True):
            sample[:] = frame[where].reshape(-1)
        piece(where, stack)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(run, range(0, height, rows)):
            pass  # raises what a piece raised


def _weakest_channel(count: Image) -> Share:
    return np.asarray(count.reshape(-1, 3).min(axis=1), dtype=np.float32)
