"""The exact median of many frames by bit search, then the mean of the samples near it.

Eight passes of compare and count find each pixel's median; the rows go by in chunks that stay in
the processor's cache. Five times faster than a sort, and made of operations that a GPU has too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Share = NDArray[np.float32]

#: Counters are bytes.
MAX_FRAMES: Final = 255
#: Grey levels within which a sample is the road too: noise of four standard deviations.
NEAR_LEVELS: Final = 12
#: Share of the samples near the result below which it is not the road. It marked all wrong pixels
#: and 0.1 % of the right ones.
CONFIDENT_SHARE: Final = 0.45
#: Share of the samples near the median from which their mean is the better estimate. With fewer,
#: two things share the place, and if the median is the wrong one the mean is more so.
_MEAN_SHARE: Final = 0.8
_CHUNK_ROWS: Final = 8


@dataclass(frozen=True)
class Estimate:
    """What most samples show.

    Attributes:
        picture: BGR.
        support: share of the samples that are near it, by pixel.
    """

    picture: Image
    support: Share


def estimate(frames: Sequence[Image]) -> Estimate:
    """Return the background of frames of one size; where few samples agree, their median.

    Raises:
        ValueError: no frames, or more than bytes can count.
    """
    _check(frames)
    picture = np.empty_like(frames[0])
    support = np.empty(picture.shape[:2], np.float32)
    for rows in _chunks(picture.shape[0]):
        block = [_flat(frame[rows]) for frame in frames]
        middle = _median(block)
        mean, count = _mean_near(block, middle)
        share = _weakest_channel(count, picture.shape[1]) / len(frames)
        support[rows] = share
        clear = np.repeat(share >= _MEAN_SHARE, 3, axis=1)
        picture[rows] = np.where(clear, mean, middle).reshape(picture[rows].shape)
    return Estimate(picture, support)


def median(frames: Sequence[Image]) -> Image:
    """Return the lower median of each pixel, exactly."""
    _check(frames)
    picture = np.empty_like(frames[0])
    for rows in _chunks(picture.shape[0]):
        block = [_flat(frame[rows]) for frame in frames]
        picture[rows] = _median(block).reshape(picture[rows].shape)
    return picture


def votes(frames: Sequence[Image], centre: Image) -> Estimate:
    """Return the mean of the samples that are near a given picture, and how many are.

    Where none is, the picture itself.
    """
    _check(frames)
    picture = np.empty_like(centre)
    support = np.empty(centre.shape[:2], np.float32)
    for rows in _chunks(centre.shape[0]):
        block = [_flat(frame[rows]) for frame in frames]
        mean, count = _mean_near(block, _flat(centre[rows]))
        picture[rows] = mean.reshape(picture[rows].shape)
        support[rows] = _weakest_channel(count, centre.shape[1]) / len(frames)
    return Estimate(picture, support)


def _median(block: list[Image]) -> Image:
    """Find each median bit by bit: the largest value that at most half of the samples are below."""
    half = (len(block) - 1) // 2
    found = np.zeros_like(block[0])
    count = np.empty_like(found)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        candidate = cv2.bitwise_or(found, np.full_like(found, bit))
        count.fill(0)
        for sample in block:
            below = cv2.compare(sample, candidate, cv2.CMP_LT)
            np.subtract(count, below, out=count)  # 255 is -1 in bytes
        found = np.where(count <= half, candidate, found)
    return found


def _mean_near(block: list[Image], centre: Image) -> tuple[Image, Image]:
    count = np.zeros_like(centre)
    total = np.zeros(centre.shape, np.uint16)  # 255 samples of 255 just fit
    near = np.full_like(centre, NEAR_LEVELS)
    for sample in block:
        mask = cv2.compare(cv2.absdiff(sample, centre), near, cv2.CMP_LE)
        np.subtract(count, mask, out=count)
        np.add(total, cv2.bitwise_and(sample, mask), out=total)
    divisor = np.maximum(count, 1).astype(np.uint16)
    mean = (total + divisor // 2) // divisor
    return np.where(count > 0, mean, centre).astype(np.uint8), count


def _weakest_channel(count: Image, width: int) -> Share:
    return np.asarray(count.reshape(-1, width, 3).min(axis=2), dtype=np.float32)


def _flat(rows: Image) -> Image:
    return rows.reshape(rows.shape[0], -1)


def _chunks(height: int) -> list[slice]:
    return [slice(top, min(top + _CHUNK_ROWS, height)) for top in range(0, height, _CHUNK_ROWS)]


def _check(frames: Sequence[Image]) -> None:
    if not 0 < len(frames) <= MAX_FRAMES:
        raise ValueError(f"{len(frames)} frames: between 1 and {MAX_FRAMES} make a background")
