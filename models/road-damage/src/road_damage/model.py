"""The detector: backbone, PAN-lite neck and a decoupled, anchor-free head.

Boxes are coded as the distances of their four sides from a cell's centre, each a distribution
over `BINS` values (distribution focal loss, Li et al. 2020), in units of the level's stride.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from road_damage.backbone import TAP_CHANNELS, Backbone, load_pretrained
from road_damage.boxes import grid_points
from road_damage.config import CLASS_NAMES, STRIDES

NECK_CHANNELS = 96
BINS = 17
BIN_OFFSET = 1.0
"""Bin 0 stands for -1 stride: a crack thinner than a cell may hold no cell centre at all, and its
nearest cells must still be able to say where it is."""

MAX_DISTANCE = BINS - 1 - BIN_OFFSET
INITIAL_CLASS_BIAS = -5.0
"""Start with every cell almost sure of no damage: nearly all are right at once."""

PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0


class Prediction(NamedTuple):
    """What the head says about every cell of every level, N cells in all.

    Attributes:
        class_logits: (B, N, classes).
        side_logits: (B, N, 4, BINS), sides in the order left, top, right, bottom.
        boxes: (B, N, 4) in pixels of the input.
        points: (N, 2), cell centres in pixels.
        strides: (N, 1), pixels per cell.
    """

    class_logits: Tensor
    side_logits: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor


def _unit(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.Hardswish(),
    )


def _separable(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _unit(inputs, inputs, 5, stride=stride, groups=inputs), _unit(inputs, outputs, 1)
    )


class Neck(nn.Module):
    """Path aggregation: meaning flows down from the coarse level, position back up."""

    def __init__(self, channels: int = NECK_CHANNELS) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(_unit(taps, channels, 1) for taps in TAP_CHANNELS)
        self.down = nn.ModuleList(self._merge(channels) for _ in range(2))
        self.reduce = nn.ModuleList(_separable(channels, channels, stride=2) for _ in range(2))
        self.up = nn.ModuleList(self._merge(channels) for _ in range(2))

    @staticmethod
    def _merge(channels: int) -> nn.Module:
        return nn.Sequential(_unit(2 * channels, channels, 1), _separable(channels, channels))

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """Features of the three strides, each with `channels` channels."""
        fine, middle, coarse = (
            lateral(tap) for lateral, tap in zip(self.laterals, taps, strict=True)
        )
        middle = self.down[0](torch.cat((middle, _double(coarse)), dim=1))
        fine = self.down[1](torch.cat((fine, _double(middle)), dim=1))
        middle = self.up[0](torch.cat((middle, self.reduce[0](fine)), dim=1))
        coarse = self.up[1](torch.cat((coarse, self.reduce[1](middle)), dim=1))
        return [fine, middle, coarse]


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


class LevelHead(nn.Module):
    """Classes and sides of one level, on branches of their own."""

    def __init__(self, channels: int = NECK_CHANNELS) -> None:
        super().__init__()
        self.class_branch = nn.Sequential(
            _separable(channels, channels), _separable(channels, channels)
        )
        self.side_branch = nn.Sequential(
            _separable(channels, channels), _separable(channels, channels)
        )
        self.classes = nn.Conv2d(channels, len(CLASS_NAMES), 1)
        self.sides = nn.Conv2d(channels, 4 * BINS, 1)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, INITIAL_CLASS_BIAS)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> class logits (B, H * W, classes) and side logits (B, H * W, 4 * BINS)."""
        classes = self.classes(self.class_branch(x)).flatten(2).transpose(1, 2)
        sides = self.sides(self.side_branch(x)).flatten(2).transpose(1, 2)
        return classes, sides


class RoadDamageDetector(nn.Module):
    """Images of raw RGB values in, boxes and class scores of every cell out."""

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Neck()
        self.heads = nn.ModuleList(LevelHead() for _ in STRIDES)
        self.register_buffer("bins", torch.arange(BINS) - BIN_OFFSET, persistent=False)
        if pretrained:
            load_pretrained(self.backbone)

    def predict(self, images: Tensor) -> Prediction:
        """Raw outputs for training.

        Args:
            images: (B, 3, H, W), RGB from 0 to 255, sides multiples of 32.
        """
        features = self.neck(self.backbone((images - PIXEL_MEAN) / PIXEL_SCALE))
        classes, sides = zip(
            *(head(x) for head, x in zip(self.heads, features, strict=True)), strict=True
        )
        shapes = [(x.shape[2], x.shape[3]) for x in features]
        points, strides = grid_points(shapes, STRIDES)
        side_logits = torch.cat(sides, dim=1).unflatten(2, (4, BINS))
        boxes = self.decode(side_logits, points, strides)
        return Prediction(torch.cat(classes, dim=1), side_logits, boxes, points, strides)

    def decode(self, side_logits: Tensor, points: Tensor, strides: Tensor) -> Tensor:
        """Expected distances around the cell centres as boxes in pixels: (B, N, 4)."""
        distances = (side_logits.softmax(-1) * self.bins).sum(-1) * strides
        return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4) in pixels and class scores (B, N, classes) from 0 to 1."""
        prediction = self.predict(images)
        return prediction.boxes, prediction.class_logits.sigmoid()


def parameter_count(model: nn.Module) -> int:
    """Number of trained and frozen weights."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters())
