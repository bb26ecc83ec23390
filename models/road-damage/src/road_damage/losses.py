"""The training loss: binary cross entropy for classes, complete IoU and DFL for boxes."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from road_damage.assigner import Assignment
from road_damage.boxes import complete_iou
from road_damage.model import BIN_OFFSET, BINS, Prediction

BOX_WEIGHT = 3.0
DISTRIBUTION_WEIGHT = 0.75
HIGHEST_BIN = BINS - 1 - 1e-3
"""Just below the last bin, so that a distance always lies between two bins."""


class Losses(NamedTuple):
    """Scalars; `total` is what is minimised, the others are already weighted parts of it."""

    total: Tensor
    classes: Tensor
    boxes: Tensor
    distribution: Tensor


def detection_loss(prediction: Prediction, assignment: Assignment) -> Losses:
    """Loss of a batch, divided by the sum of its class targets."""
    scale = assignment.scores.sum().clamp(min=1.0)
    classes = functional.binary_cross_entropy_with_logits(
        prediction.class_logits, assignment.scores, reduction="sum"
    )
    positive = assignment.positive
    weight = assignment.scores.sum(-1)[positive]
    target = assignment.boxes[positive]
    box = ((1 - complete_iou(prediction.boxes[positive], target)) * weight).sum()
    points = prediction.points.expand(len(positive), -1, -1)[positive]
    strides = prediction.strides.expand(len(positive), -1, -1)[positive]
    sides = torch.cat((points - target[:, :2], target[:, 2:] - points), dim=-1) / strides
    spread = distribution_loss(prediction.side_logits[positive], sides).mean(-1)
    parts = (
        classes / scale,
        BOX_WEIGHT * box / scale,
        DISTRIBUTION_WEIGHT * (spread * weight).sum() / scale,
    )
    return Losses(sum(parts[1:], parts[0]), *parts)


def distribution_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross entropy against the two bins around each distance, weighted by nearness.

    Args:
        logits: (K, 4, BINS).
        distances: (K, 4), in strides; those outside the bins count as the nearest bin.
    """
    place = (distances + BIN_OFFSET).clamp(0, HIGHEST_BIN)
    lower = place.long()
    upper_share = place - lower
    log_share = functional.log_softmax(logits, dim=-1)
    below = log_share.gather(-1, lower[..., None])[..., 0]
    above = log_share.gather(-1, lower[..., None] + 1)[..., 0]
    return -(below * (1 - upper_share) + above * upper_share)
