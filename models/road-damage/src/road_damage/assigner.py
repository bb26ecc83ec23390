"""Which cell learns which damage. Two assigners with one result type.

B images, M damages (padded, with a mask), N cells.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from road_damage.boxes import iou_matrix
from road_damage.config import CLASS_NAMES, STRIDES
from road_damage.model import MAX_DISTANCE

CANDIDATES = 10
"""Cells per damage."""

ALPHA = 0.5
BETA = 4.0
"""Weights of score and overlap in the alignment. The usual 6 starves thin cracks, whose overlap is
small long after the box looks right."""

TARGET_FLOOR = 0.4
"""The best cell of each damage gets at least this class target, however thin the damage."""

REACH_IN_CELLS = 1.0
"""A damage is taken to reach at least this many cells from its centre on either side, so that a
crack between two columns of cell centres still has candidates. Bin 0 of the head covers it."""

STATIC_SCALE = 8.0
"""The static assigner gives a level the damages about this many cells long."""

EPSILON = 1e-9


class Targets(NamedTuple):
    """Damages of a batch, padded to the largest count.

    Attributes:
        boxes: (B, M, 4) in pixels.
        classes: (B, M), zero where padded.
        valid: (B, M), false where padded.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor


class Assignment(NamedTuple):
    """What each cell is to learn.

    Attributes:
        scores: (B, N, classes), the class targets from 0 to 1.
        boxes: (B, N, 4) in pixels, of use where `positive`.
        positive: (B, N).
    """

    scores: Tensor
    boxes: Tensor
    positive: Tensor


def reachable(points: Tensor, strides: Tensor, targets: Tensor) -> Tensor:
    """Cells that may learn each damage: (N, 2), (N, 1), (B, M, 4) -> (B, M, N).

    The damage's box, slightly widened, holds their centre, and the head's distances can express it.
    """
    half = (targets[..., 2:] - targets[..., :2]) / 2
    centre = (targets[..., 2:] + targets[..., :2]) / 2
    offset = (points - centre[..., None, :]).abs()
    widened = torch.maximum(half[..., None, :], REACH_IN_CELLS * strides)
    inside = (offset < widened).all(-1)
    furthest = (offset + half[..., None, :]).amax(-1)
    return inside & (furthest <= MAX_DISTANCE * strides[:, 0])


@torch.no_grad()
def assign_aligned(
    scores: Tensor, predicted: Tensor, points: Tensor, strides: Tensor, targets: Targets
) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021) with a floor under the targets.

    Args:
        scores: (B, N, classes), predicted scores from 0 to 1.
        predicted: (B, N, 4), predicted boxes in pixels.
        points: (N, 2) in pixels.
        strides: (N, 1) in pixels.
        targets: The damages.
    """
    overlap = iou_matrix(targets.boxes, predicted)
    of_class = targets.classes[..., None].expand(-1, -1, scores.shape[1])
    score = scores.transpose(1, 2).gather(1, of_class)
    alignment = score**ALPHA * overlap**BETA
    allowed = reachable(points, strides, targets.boxes) & targets.valid[..., None]
    # Before a damage is found at all, every alignment is nought: the nearest cells then win.
    rank = alignment + EPSILON * _closeness(points, strides, targets.boxes)
    owner, positive = _settle(_best(rank, allowed), overlap)
    mine = torch.zeros_like(allowed).scatter_(1, owner[:, None], positive[:, None])
    alignment = alignment * mine
    peak = alignment.amax(-1, keepdim=True)
    best_overlap = (overlap * mine).amax(-1, keepdim=True).clamp(min=TARGET_FLOOR)
    strength = (alignment + EPSILON) / (peak + EPSILON) * best_overlap * mine
    return _gather(targets, owner, positive, strength.amax(1))


@torch.no_grad()
def assign_static(points: Tensor, strides: Tensor, targets: Targets) -> Assignment:
    """The cells nearest the damage's centre, on the level that suits its length; all targets 1."""
    length = (targets.boxes[..., 2:] - targets.boxes[..., :2]).amax(-1)
    choices = torch.tensor(STRIDES, dtype=torch.float32)
    level = (length[..., None] / (STATIC_SCALE * choices)).clamp(min=EPSILON).log().abs().argmin(-1)
    on_level = strides[:, 0] == choices[level][..., None]
    allowed = reachable(points, strides, targets.boxes) & on_level & targets.valid[..., None]
    closeness = _closeness(points, strides, targets.boxes)
    owner, positive = _settle(_best(closeness, allowed), closeness)
    return _gather(targets, owner, positive, positive.float())


def _closeness(points: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """1 at the damage's centre, falling with the distance in box sides and cells: (B, M, N)."""
    centre = (boxes[..., 2:] + boxes[..., :2]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    scale = half[..., None, :] + strides
    return 1 / (1 + ((points - centre[..., None, :]) / scale).square().sum(-1))


def _best(rank: Tensor, allowed: Tensor) -> Tensor:
    """The `CANDIDATES` allowed cells of highest rank of each damage, as a mask: (B, M, N)."""
    count = min(CANDIDATES, rank.shape[-1])
    ranked = torch.where(allowed, rank, -1.0)
    chosen = ranked.topk(count, dim=-1).indices
    return torch.zeros_like(allowed).scatter_(-1, chosen, value=True) & allowed


def _settle(chosen: Tensor, preference: Tensor) -> tuple[Tensor, Tensor]:
    """Give each cell to one damage at most: the owner's index and whether there is one: (B, N)."""
    owner = torch.where(chosen, preference, -1.0).argmax(1)
    return owner, chosen.any(1)


def _gather(targets: Targets, owner: Tensor, positive: Tensor, strength: Tensor) -> Assignment:
    boxes = targets.boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    classes = targets.classes.gather(1, owner)
    scores = torch.nn.functional.one_hot(classes, len(CLASS_NAMES)) * strength[..., None]
    return Assignment(scores * positive[..., None], boxes, positive)
