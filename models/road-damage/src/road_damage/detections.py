"""From the model's cells to a short list of damages: threshold and non-maximum suppression."""

from typing import NamedTuple

import torch
from torch import Tensor

from road_damage.boxes import iou_matrix

OVERLAP_LIMIT = 0.5
"""Of two boxes of one class that overlap more than this, the one with the lower score goes."""

LOWEST_SCORE = 0.01
MAX_CANDIDATES = 600
MAX_DETECTIONS = 100
"""Per image, as in the COCO metric."""


class Detections(NamedTuple):
    """Damages found in one image, highest score first.

    Attributes:
        boxes: (K, 4) in pixels of the model's input.
        scores: (K), from 0 to 1.
        classes: (K), indices into `CLASS_NAMES`.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def detections(boxes: Tensor, scores: Tensor, *, lowest: float = LOWEST_SCORE) -> Detections:
    """Pick the damages of one image from all cells: (N, 4), (N, classes)."""
    flat = scores.flatten()
    order = flat.topk(min(MAX_CANDIDATES, len(flat))).indices
    order = order[flat[order] >= lowest]
    cells = order // scores.shape[1]
    found = Detections(boxes[cells], flat[order], order % scores.shape[1])
    keep = suppress(found)[:MAX_DETECTIONS]
    return Detections(found.boxes[keep], found.scores[keep], found.classes[keep])


def suppress(found: Detections) -> Tensor:
    """Indices that survive class-wise non-maximum suppression of sorted detections."""
    same = found.classes[:, None] == found.classes[None, :]
    rivals = ((iou_matrix(found.boxes, found.boxes) > OVERLAP_LIMIT) & same).numpy()
    alive = torch.ones(len(found.scores), dtype=torch.bool).numpy()
    for index in range(len(alive)):
        if alive[index]:
            alive[index + 1 :] &= ~rivals[index, index + 1 :]
    return torch.from_numpy(alive).nonzero()[:, 0]
