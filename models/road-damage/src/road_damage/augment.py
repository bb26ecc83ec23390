"""Augmentation of images with their boxes. Every function draws from the generator it is given.

No rotation and no upright flip: whether a crack is longitudinal or transverse would change.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from road_damage.dataset import Boxes, Classes, Image, Sample

SCALE_RANGE = (0.7, 1.4)
SHIFT = 0.15
"""Largest shift of the image's centre, as a share of the output side."""

MIN_VISIBLE = 0.3
"""A damage of which less than this share of its area is left in the picture is dropped."""

MIN_SIDE = 2.0
"""Pixels; a thinner rest of a damage is dropped."""

PADDING = (114, 114, 114)
BLUR_CHANCE = 0.15
COLOUR_GAIN = (0.03, 0.4, 0.35)
"""Largest change of hue (share of the circle), saturation and brightness (factors)."""

MOSAIC_CENTRE = (0.3, 0.7)


@dataclass(frozen=True)
class Placement:
    """Where a source image lands in the output: flip, then scale, then shift.

    Attributes:
        scale: Output pixels per source pixel.
        shift: Output position (x, y) of the source's top left corner.
        flip: Mirror left and right first.
    """

    scale: float
    shift: tuple[float, float]
    flip: bool = False

    def matrix(self, width: int) -> NDArray[np.float64]:
        """The 2 x 3 affine matrix for a source of this width, in continuous coordinates."""
        sign = -1.0 if self.flip else 1.0
        left = self.shift[0] + (self.scale * width if self.flip else 0.0)
        return np.array([[sign * self.scale, 0.0, left], [0.0, self.scale, self.shift[1]]])


def place(sample: Sample, placement: Placement, side: int) -> Sample:
    """Draw a sample into a square of `side` pixels and move its boxes with it."""
    width = sample.image.shape[1]
    matrix = placement.matrix(width)
    # OpenCV counts from pixel centres, boxes from pixel edges: half a pixel on either side.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    quality = cv2.INTER_AREA if placement.scale < 0.5 else cv2.INTER_LINEAR
    image = cv2.warpAffine(
        sample.image, centred, (side, side), flags=quality, borderValue=PADDING
    ).astype(np.uint8, copy=False)
    boxes, classes = clip(move_boxes(sample.boxes, matrix), sample.classes, side)
    return Sample(sample.name, image, boxes, classes)


def move_boxes(boxes: Boxes, matrix: NDArray[np.float64]) -> Boxes:
    """Boxes (M, 4) through a matrix of scales and shifts; corners are put in order again."""
    corners = boxes.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
    pairs = corners.reshape(-1, 2, 2)
    return np.concatenate((pairs.min(axis=1), pairs.max(axis=1)), axis=1).astype(np.float32)


def clip(boxes: Boxes, classes: Classes, side: int) -> tuple[Boxes, Classes]:
    """Cut boxes to the square and drop those of which too little is left."""
    cut = np.clip(boxes, 0, side)
    before = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    sides = cut[:, 2:] - cut[:, :2]
    keep = (np.prod(sides, axis=1) >= MIN_VISIBLE * before) & (sides.min(axis=1) >= MIN_SIDE)
    return cut[keep], classes[keep]


def letterbox(sample: Sample, side: int) -> Sample:
    """The whole image, as large as fits, in the middle of a square."""
    return place(sample, letterbox_placement(sample.image.shape[:2], side), side)


def letterbox_placement(shape: tuple[int, ...], side: int) -> Placement:
    """Placement of an image of (height, width) in the middle of a square."""
    height, width = shape[0], shape[1]
    scale = side / max(height, width)
    return Placement(scale, ((side - width * scale) / 2, (side - height * scale) / 2))


def random_view(sample: Sample, side: int, random: Generator) -> Sample:
    """Flip, scale and shift at random."""
    height, width = sample.image.shape[:2]
    scale = side / max(height, width) * random.uniform(*SCALE_RANGE)
    move = random.uniform(-SHIFT, SHIFT, size=2) * side
    x, y = (side - width * scale) / 2 + move[0], (side - height * scale) / 2 + move[1]
    return place(sample, Placement(scale, (x, y), flip=bool(random.random() < 0.5)), side)


def mosaic(samples: list[Sample], side: int, random: Generator) -> Sample:
    """Four images around a common corner: small damages, and new neighbours."""
    centre = [int(v) for v in random.uniform(*MOSAIC_CENTRE, size=2) * side]
    canvas = np.full((side, side, 3), PADDING, dtype=np.uint8)
    boxes, classes = [], []
    for quarter, sample in enumerate(samples):
        right, lower = bool(quarter % 2), quarter >= 2
        left, top = (centre[0] if right else 0), (centre[1] if lower else 0)
        width = side - left if right else centre[0]
        height = side - top if lower else centre[1]
        tile = _tile(sample, width, height, random)
        canvas[top : top + height, left : left + width] = tile.image[:height, :width]
        boxes.append(tile.boxes + np.array([left, top, left, top], dtype=np.float32))
        classes.append(tile.classes)
    return Sample("mosaic", canvas, np.concatenate(boxes), np.concatenate(classes))


def _tile(sample: Sample, width: int, height: int, random: Generator) -> Sample:
    """A random view that covers a rectangle, drawn from the top left of a square around it."""
    side = max(width, height)
    scale = side / min(sample.image.shape[:2]) * random.uniform(0.7, 1.2)
    room = (width - sample.image.shape[1] * scale, height - sample.image.shape[0] * scale)
    x, y = (random.uniform(min(r, 0.0), max(r, 0.0)) for r in room)
    moved = place(sample, Placement(scale, (x, y), flip=bool(random.random() < 0.5)), side)
    limits = np.array([width, height, width, height], dtype=np.float32)
    cut = np.minimum(moved.boxes, limits)
    sides = cut[:, 2:] - cut[:, :2]
    whole = np.prod(moved.boxes[:, 2:] - moved.boxes[:, :2], axis=1)
    keep = (sides.min(axis=1) >= MIN_SIDE) & (np.prod(sides, axis=1) >= MIN_VISIBLE * whole)
    return Sample(sample.name, moved.image, cut[keep], moved.classes[keep])


def colour(image: Image, random: Generator) -> Image:
    """Change hue, saturation and brightness, and blur a few images lightly."""
    hue, saturation, value = 1 + random.uniform(-1, 1, size=3) * np.array(COLOUR_GAIN)
    ramp = np.arange(256, dtype=np.float64)
    tables = (
        ((ramp + (hue - 1) * 180) % 180).astype(np.uint8),
        np.clip(ramp * saturation, 0, 255).astype(np.uint8),
        np.clip(ramp * value, 0, 255).astype(np.uint8),
    )
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    changed = cv2.merge([cv2.LUT(p, t) for p, t in zip(planes, tables, strict=True)])
    result = cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)
    if random.random() < BLUR_CHANCE:
        result = cv2.GaussianBlur(result, (3, 3), random.uniform(0.4, 1.0))
    return result.astype(np.uint8, copy=False)


def augmented(sample: Sample, others: list[Sample], side: int, random: Generator) -> Sample:
    """A training view: alone, or with three others as a mosaic."""
    view = mosaic([sample, *others], side, random) if others else random_view(sample, side, random)
    return Sample(view.name, colour(view.image, random), view.boxes, view.classes)
