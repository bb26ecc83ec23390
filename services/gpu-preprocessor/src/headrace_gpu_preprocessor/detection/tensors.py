"""Pictures to the numbers that a model takes, and its numbers to detections.

A model takes `images` (B, 3, H, W), RGB, and gives one of two things:

* `boxes` (B, N, 4), xyxy in pixels of the input, and `scores` (B, N, C), 0 to 1;
* one output (B, 4 + C, N): rows centre x, centre y, width, height, and a score for each class,
  as the models of the YOLO family have it.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.detection.detector import Detections, Floats, Image, ModelInfo

#: Grey of what is added around pictures, as in training.
PADDING_LEVEL: Final = 114
#: Highest scores of one picture that are looked at, as in the evaluation of the model.
MAX_CANDIDATES: Final = 600


class OutputError(Exception):
    """A model gives something else than boxes and scores; the message says what."""


def pack(pictures: Sequence[Image], info: ModelInfo) -> tuple[Floats, float]:
    """Make a model's input of pictures of one size.

    Pictures larger than a model's fixed size are shrunk. What is missing to the model's size, or
    to a multiple of its step, is padded at the right and below.

    Returns:
        The input, and the factor by which the pictures were scaled.
    """
    height, width = pictures[0].shape[:2]
    scale = 1.0
    if info.fixed_size is not None:
        scale = min(1.0, info.fixed_size[0] / height, info.fixed_size[1] / width)
    inner = (max(1, round(height * scale)), max(1, round(width * scale)))
    outer = info.fixed_size or (_up(inner[0], info), _up(inner[1], info))
    batch = np.full((len(pictures), 3, *outer), PADDING_LEVEL, np.float32)
    for place, picture in zip(batch, pictures, strict=True):
        small = picture if scale == 1.0 else _resize(picture, inner)
        place[:, : inner[0], : inner[1]] = small[:, :, ::-1].transpose(2, 0, 1)
    if info.input_range == 1:
        batch /= 255.0
    return batch, scale


def _up(side: int, info: ModelInfo) -> int:
    return -(-side // info.size_multiple) * info.size_multiple


def _resize(picture: Image, size: tuple[int, int]) -> Image:
    small = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def unpack(outputs: Sequence[NDArray[np.floating]], info: ModelInfo) -> list[Detections]:
    """Make detections of a model's outputs, in pixels of its input.

    Raises:
        OutputError: they are not boxes and scores of the model's classes.
    """
    boxes, scores = _boxes_and_scores(outputs, len(info.labels))
    return [_pick(*one, info.threshold) for one in zip(boxes, scores, strict=True)]


def _boxes_and_scores(
    outputs: Sequence[NDArray[np.floating]], classes: int
) -> tuple[Floats, Floats]:
    shapes = ", ".join(str(tuple(output.shape)) for output in outputs)
    if len(outputs) == 2:
        boxes, scores = outputs
        if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.shape[:2] != boxes.shape[:2]:
            raise OutputError(f"needs boxes (B, N, 4) and scores (B, N, C), has {shapes}")
        if scores.ndim != 3 or scores.shape[2] != classes:
            raise OutputError(f"has scores {tuple(scores.shape)}, and {classes} labels are named")
        return boxes.astype(np.float32, copy=False), scores.astype(np.float32, copy=False)
    if len(outputs) == 1 and outputs[0].ndim == 3:
        rows = outputs[0].astype(np.float32, copy=False)
        if rows.shape[1] != 4 + classes:
            raise OutputError(
                f"has one output {shapes}; with {classes} labels it must be (B, {4 + classes}, N)"
            )
        centres, sides = rows[:, :2], rows[:, 2:4]
        half = sides * np.float32(0.5)
        corners = np.concatenate((centres - half, centres + half), axis=1, dtype=np.float32)
        return corners.transpose(0, 2, 1), rows[:, 4:].transpose(0, 2, 1)
    raise OutputError(f"needs boxes and scores, or one output (B, 4 + C, N), has {shapes}")


def _pick(boxes: Floats, scores: Floats, threshold: float) -> Detections:
    """Take what reaches the threshold, the highest scores if there are too many."""
    cells, classes = np.nonzero(scores >= threshold)
    found = scores[cells, classes]
    if len(found) > MAX_CANDIDATES:
        best = np.argsort(-found, kind="stable")[:MAX_CANDIDATES]
        cells, classes, found = cells[best], classes[best], found[best]
    return Detections(np.ascontiguousarray(boxes[cells]), found, classes.astype(np.int64))
