"""Box geometry. Boxes are (x1, y1, x2, y2) in pixels, as torch tensors of shape (..., 4)."""

import math

import torch
from torch import Tensor

EPSILON = 1e-7


def areas(boxes: Tensor) -> Tensor:
    """Area of each box in square pixels, zero for an inverted one: (..., 4) -> (...)."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast together: (..., 4), (..., 4) -> (...)."""
    corner = torch.minimum(first[..., 2:], second[..., 2:])
    sides = (corner - torch.maximum(first[..., :2], second[..., :2])).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    return intersection / (areas(first) + areas(second) - intersection + EPSILON)


def iou_matrix(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every pair: (..., M, 4), (..., N, 4) -> (..., M, N)."""
    return iou(first[..., :, None, :], second[..., None, :, :])


def complete_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Complete IoU (Zheng et al. 2020): (N, 4), (N, 4) -> (N), in (-1.5, 1].

    Besides the overlap it counts the distance of the centres and the difference in aspect ratio,
    so that boxes that do not touch still have a gradient.
    """
    overlap = iou(predicted, target)
    outer_min = torch.minimum(predicted[:, :2], target[:, :2])
    outer_max = torch.maximum(predicted[:, 2:], target[:, 2:])
    diagonal = ((outer_max - outer_min) ** 2).sum(-1) + EPSILON
    centre_shift = (predicted[:, :2] + predicted[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    distance = (centre_shift**2).sum(-1) / diagonal
    aspect = (_angle(target) - _angle(predicted)) ** 2 * (4 / math.pi**2)
    with torch.no_grad():
        weight = aspect / (1 - overlap + aspect + EPSILON)
    return overlap - distance - weight * aspect


def _angle(boxes: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=EPSILON)
    return torch.atan(sides[:, 0] / sides[:, 1])


def grid_points(shapes: list[tuple[int, int]], strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cell centres of all levels.

    Args:
        shapes: Rows and columns of each level.
        strides: Pixels per cell of each level.

    Returns:
        Centres (N, 2) as (x, y) in pixels, and the stride of each (N, 1).
    """
    centres, steps = [], []
    for (rows, columns), stride in zip(shapes, strides, strict=True):
        y = (torch.arange(rows, dtype=torch.float32) + 0.5) * stride
        x = (torch.arange(columns, dtype=torch.float32) + 0.5) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((grid_x, grid_y), dim=-1).reshape(-1, 2))
        steps.append(torch.full((rows * columns, 1), float(stride)))
    return torch.cat(centres), torch.cat(steps)
