"""Names, sizes and training settings that several modules share."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

CLASS_NAMES = ("D00", "D10", "D20", "D40")
"""Longitudinal crack, transverse crack, alligator crack, pothole: the order of the label files."""

STRIDES = (8, 16, 32)
"""Input pixels per grid cell of the three output levels."""

SIZE_MULTIPLE = STRIDES[-1]
"""Input sides are multiples of this, so that every level has a whole number of cells."""

EVALUATION_SIZE = 320
"""Input side of the validation during training: the middle of the sizes trained on."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes; stored in each checkpoint.

    Attributes:
        seed: Decides the initial weights, the order of the images and every augmentation.
        steps: Optimizer steps of the whole run. May be raised on resume: the learning rate is
            constant until `cooldown_steps` before the end, so earlier steps do not change.
        cooldown_steps: Last steps, in which the learning rate falls to zero along a cosine and
            mosaics are no longer made.
        small_steps: First steps, which use `small_sizes`: cheap while the features are coarse.
        static_steps: First steps, which use the static assigner.
    """

    seed: int = 1
    steps: int = 24_000
    cooldown_steps: int = 6_000
    warmup_steps: int = 150
    small_steps: int = 2_500
    static_steps: int = 1_000
    batch: int = 8
    small_sizes: tuple[int, ...] = (224, 256, 288)
    sizes: tuple[int, ...] = (256, 288, 320, 352, 384, 416)
    learning_rate: float = 1e-3
    backbone_factor: float = 0.3
    weight_decay: float = 0.02
    gradient_clip: float = 10.0
    ema_decay: float = 0.9995
    mosaic: float = 0.4
    augment: bool = True
    repeat_threshold: float = 0.5
    checkpoint_seconds: float = 300.0
    validate_every: int = 500

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values for a checkpoint."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The settings of a checkpoint; unknown names raise `TypeError`."""
        names = {field.name for field in fields(cls)}
        if unknown := set(values) - names:
            raise TypeError(f"unknown training settings: {sorted(unknown)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
