"""Checkpoints: everything a run needs to go on exactly where it stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FILE_NAME = "checkpoint.pt"


@dataclass
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        step: Steps done.
        config: `TrainConfig.as_dict` of the run.
        data: Fingerprint of the training data.
        model: State of the trained model.
        average: State of the averaged model.
        optimizer: State of the optimizer.
        random: State of torch's generator.
        seconds: Time spent training so far.
        best: Highest F1 on the validation images so far.
    """

    step: int
    config: dict[str, Any]
    data: str
    model: dict[str, Any]
    average: dict[str, Any]
    optimizer: dict[str, Any]
    random: torch.Tensor
    seconds: float
    best: float


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(vars(checkpoint), partial)
    partial.replace(path)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint without running any code that it might hold."""
    return Checkpoint(**torch.load(path, weights_only=True, map_location="cpu"))
