"""The road itself: asphalt, verges, markings, and damage of each class."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LANES: Final = 4
_HORIZON: Final = 0.18
#: Half the road's width at the horizon and at the lower edge, as shares of the picture's width.
_HALF_WIDTHS: Final = (0.09, 0.46)
#: OpenCV draws with fractions of a pixel: 4 bits of them.
_FRACTION: Final = 16
_CRACK: Final = (38, 38, 40)


@dataclass(frozen=True)
class Damage:
    """Known damage: its class as road surveys name it, and its box in pixels."""

    label: str
    xyxy: tuple[int, int, int, int]


class Road:
    """An empty road in perspective."""

    def __init__(self, width: int, height: int, place: int) -> None:
        """Make the road of a place, at a size."""
        self.width = width
        self.height = height
        self._place = place

    def point(self, across: float, along: float) -> tuple[float, float]:
        """Return the pixel of a place on the road: across 0 to 1, along 0 (far) to 1 (near)."""
        depth = max(along, 0.0) ** 1.6
        half = _HALF_WIDTHS[0] + (_HALF_WIDTHS[1] - _HALF_WIDTHS[0]) * depth
        x = (0.5 + half * (2 * across - 1)) * self.width
        y = (_HORIZON + (1 - _HORIZON) * depth) * self.height
        return x, y

    def quad(self, left: float, right: float, back: float, front: float) -> NDArray[np.int32]:
        """Return the corners of a patch of road, for OpenCV with 4 bits of fraction."""
        corners = [
            self.point(left, back),
            self.point(right, back),
            self.point(right, front),
            self.point(left, front),
        ]
        return np.asarray(np.rint(np.array(corners) * _FRACTION), dtype=np.int32)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Where the road is."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillConvexPoly(mask, self.quad(0, 1, 0, 1), 1, cv2.LINE_8, 4)
        return mask.astype(bool)

    @cached_property
    def damage(self) -> tuple[Damage, ...]:
        """The damage, each with the box around what was drawn."""
        return tuple(Damage(label, self._box(points)) for label, points, _ in self._lines)

    @cached_property
    def picture(self) -> Image:
        """The road without traffic, BGR, without noise."""
        random = np.random.default_rng(self._place + 100)
        size = (self.height, self.width)
        ground = _texture(random, size, (70, 105, 82), 16)
        asphalt = _texture(random, size, (104, 102, 100), 13)
        picture = np.where(self.mask[..., None], asphalt, ground).astype(np.uint8)
        sky = int(_HORIZON * self.height)
        picture[:sky] = np.linspace((215, 190, 160), (225, 215, 205), sky)[:, None]
        self._mark(picture)
        for label, points, thickness in self._lines:
            self._draw(picture, label, points, thickness)
        return picture

    def _mark(self, picture: Image) -> None:
        for edge in (0.0, 1.0):
            self._patch(picture, edge - 0.006, edge + 0.006, 0, 1)
        for lane in range(1, _LANES):
            for start in np.arange(0, 1, 0.14):
                across = lane / _LANES
                self._patch(picture, across - 0.006, across + 0.006, start, start + 0.07)

    def _patch(self, picture: Image, left: float, right: float, back: float, front: float) -> None:
        corners = self.quad(left, right, back, front)
        cv2.fillConvexPoly(picture, corners, (215, 220, 222), cv2.LINE_AA, 4)

    @cached_property
    def _lines(self) -> list[tuple[str, list[NDArray[np.int32]], int]]:
        """Cracks as wandering lines: label, polylines, thickness in pixels."""
        random = np.random.default_rng(self._place + 7)
        thick = max(1, self.height // 240)
        d00 = [self._crack(random, (0.12, 0.55), (0.13, 0.85))]
        d10 = [self._crack(random, (0.30, 0.80), (0.45, 0.81))]
        mesh = [(0.55 + 0.03 * step, 0.70) for step in range(5)]
        d20 = [self._crack(random, start, (start[0], 0.82)) for start in mesh]
        d20 += [self._crack(random, (0.55, row), (0.67, row)) for row in (0.71, 0.74, 0.77, 0.80)]
        hole = [self.quad(0.80, 0.88, 0.60, 0.65) // _FRACTION]
        return [("D00", d00, thick), ("D10", d10, thick), ("D20", d20, thick), ("D40", hole, 0)]

    def _crack(
        self, random: np.random.Generator, start: tuple[float, float], end: tuple[float, float]
    ) -> NDArray[np.int32]:
        steps = np.linspace(0, 1, 14)[:, None]
        path = np.array(start) + steps * (np.array(end) - np.array(start))
        path[1:-1] += random.normal(0, 0.004, (12, 2))
        return np.rint([self.point(across, along) for across, along in path]).astype(np.int32)

    def _draw(
        self, picture: Image, label: str, lines: list[NDArray[np.int32]], thickness: int
    ) -> None:
        if label == "D40":
            x1, y1, x2, y2 = self._box(lines)
            centre, axes = ((x1 + x2) // 2, (y1 + y2) // 2), ((x2 - x1) // 2, (y2 - y1) // 2)
            cv2.ellipse(picture, centre, axes, 0, 0, 360, (52, 52, 55), -1, cv2.LINE_AA)
        else:
            cv2.polylines(picture, lines, False, _CRACK, thickness, cv2.LINE_AA)  # noqa: FBT003

    def _box(self, lines: list[NDArray[np.int32]]) -> tuple[int, int, int, int]:
        points = np.concatenate(lines)
        x1, y1 = points.min(axis=0)
        x2, y2 = points.max(axis=0)
        return int(x1), int(y1), int(x2), int(y2)


def _texture(
    random: np.random.Generator, size: tuple[int, int], colour: tuple[int, int, int], depth: float
) -> NDArray[np.float64]:
    """Return grain of several sizes around a colour, as asphalt has."""
    height, width = size
    grain = np.zeros(size)
    for scale, share in ((1, 0.35), (3, 0.3), (24, 0.35)):
        small = random.normal(0, 1, (height // scale + 2, width // scale + 2))
        large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        grain += share * large
    return np.clip(np.array(colour) + depth * grain[..., None], 0, 255)
