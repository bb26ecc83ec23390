"""Where the model looks: once at the whole picture, and closer at the road, within a budget.

The model knows damage of a certain size in pixels, so small cracks of a large picture must come
near that size, and large ones must be seen whole. Hence two scales: the whole picture shrunk to
the model's size, and tiles of the model's size over the road, at the finest scale that the budget
pays for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.detection.detector import Image

Mask = NDArray[np.bool_]

#: Share of a tile's side that it has in common with its neighbour: what is cut there is whole here.
OVERLAP: Final = 0.15
#: The whole picture is at most so many model sizes long.
_LONGEST_WHOLE: Final = 2.0
#: Tiles pay if they show the road this much larger than the whole picture does; below that they
#: see the same again, with more false alarms.
MIN_GAIN: Final = 1.6
#: Tiles with less road than this share of their area are left out.
_MIN_ROAD: Final = 0.01
#: Ratio of one scale that is tried to the one before.
_SCALE_STEP: Final = 0.96


@dataclass(frozen=True)
class View:
    """A part of the picture, as the model sees it.

    Attributes:
        left: pixels of the whole picture, at the view's scale.
        top: as `left`.
        width: as `left`.
        height: as `left`.
        scale: pixels of the view for each pixel of the picture.
        whole: whether it shows the whole picture.
    """

    left: int
    top: int
    width: int
    height: int
    scale: float
    whole: bool = False


@dataclass(frozen=True)
class Plan:
    """What the model looks at.

    Attributes:
        whole: the whole picture.
        tiles: all of one size and scale; empty if they would not pay.
    """

    whole: View
    tiles: tuple[View, ...] = ()

    @property
    def pixels(self) -> int:
        """How many pixels the model sees."""
        return sum(view.width * view.height for view in (self.whole, *self.tiles))


def make_plan(road: Mask, side: int, budget_pixels: float, *, square: bool = False) -> Plan:
    """Decide where to look.

    Args:
        road: where damage counts; its shape is the picture's.
        side: at which the model sees best, in pixels.
        budget_pixels: that the model may look at; the whole picture is seen in any case.
        square: whether the model takes nothing larger than `side` by `side`.
    """
    height, width = road.shape
    longest = side if square else side * _LONGEST_WHOLE
    scale = min(1.0, side / min(height, width), longest / max(height, width))
    if square:
        scale = min(scale, side / max(height, width))
    whole = _whole(width, height, scale)
    left = budget_pixels - whole.width * whole.height
    return Plan(whole, _finest(road, side, scale * MIN_GAIN, left))


def cut_out(picture: Image, plan: Plan) -> tuple[list[Image], list[Image]]:
    """Return the pixels of a plan's whole view (a list of one), and of its tiles."""
    whole = [_resized(picture, plan.whole.scale)]
    if not plan.tiles:
        return whole, []
    scaled = _resized(picture, plan.tiles[0].scale)
    return whole, [
        scaled[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        for tile in plan.tiles
    ]


def _whole(width: int, height: int, scale: float) -> View:
    return View(0, 0, *_scaled_size(width, height, scale), scale, whole=True)


def _finest(road: Mask, side: int, coarsest: float, budget: float) -> tuple[View, ...]:
    """Return the tiles of the finest scale that the budget pays for; none if too coarse."""
    extent = _extent(road)
    if extent is None:
        return ()
    counts = np.asarray(cv2.integral(road.astype(np.uint8)), dtype=np.int32)
    scale = 1.0
    while scale >= coarsest:
        tiles = tuple(_grid(counts, extent, side, scale))
        if sum(tile.width * tile.height for tile in tiles) <= budget:
            return tiles
        scale *= _SCALE_STEP
    return ()


def _extent(road: Mask) -> tuple[int, int, int, int] | None:
    """Return the box around the road, xyxy."""
    columns, rows = np.nonzero(road.any(axis=0))[0], np.nonzero(road.any(axis=1))[0]
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _grid(
    counts: NDArray[np.int32], extent: tuple[int, int, int, int], side: int, scale: float
) -> Iterator[View]:
    """Yield the tiles that have road in them, row by row."""
    rows, columns = counts.shape[0] - 1, counts.shape[1] - 1
    full_width, full_height = _scaled_size(columns, rows, scale)
    width, height = min(side, full_width), min(side, full_height)
    lefts = _places(extent[0] * scale, extent[2] * scale, width, full_width)
    tops = _places(extent[1] * scale, extent[3] * scale, height, full_height)
    for top in tops:
        for left in lefts:
            tile = View(left, top, width, height, scale)
            if _road_in(counts, tile) >= _MIN_ROAD:
                yield tile


def _places(start: float, end: float, side: int, full: int) -> list[int]:
    """Return where tiles begin that cover `start` to `end`, evenly, within 0 to `full`."""
    step = side * (1 - OVERLAP)
    count = max(1, int(np.ceil((end - start - side) / step - 1e-9)) + 1)
    room = max(0.0, count * side - (count - 1) * side * OVERLAP - (end - start))
    first = min(max(0.0, start - room / 2), full - side)
    last = max(first, min(end - side + room / 2, full - side))
    return sorted({round(place) for place in np.linspace(first, last, count)})


def _road_in(counts: NDArray[np.int32], tile: View) -> float:
    """Return the share of a tile that is road."""
    rows, columns = counts.shape[0] - 1, counts.shape[1] - 1
    x1, y1 = int(tile.left / tile.scale), int(tile.top / tile.scale)
    x2 = min(columns, round((tile.left + tile.width) / tile.scale))
    y2 = min(rows, round((tile.top + tile.height) / tile.scale))
    area = max(1, (x2 - x1) * (y2 - y1))
    road = int(counts[y2, x2] - counts[y1, x2] - counts[y2, x1] + counts[y1, x1])
    return float(road) / float(area)


def _scaled_size(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(picture: Image, scale: float) -> Image:
    size = _scaled_size(picture.shape[1], picture.shape[0], scale)
    if size == (picture.shape[1], picture.shape[0]):
        return picture
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
