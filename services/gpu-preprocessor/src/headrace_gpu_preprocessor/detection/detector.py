"""What every detector does: pictures in, boxes of damage out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
InputRange = Literal[1, 255]


#: See `ModelInfo.best_batch`: a CPU's cache has no room for more than one, a GPU is idle with it.
CPU_BATCH: Final = 1
GPU_BATCH: Final = 8


@dataclass(frozen=True)
class Detections:
    """What was found in one picture. Arrays of one length, in no promised order.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the picture, not clipped to it.
        scores: (N,) float32, 0 to 1.
        classes: (N,) int64, indices into the model's labels.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Self:
        """Return no detections."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    def scaled(self, x: float, y: float) -> Self:
        """Return them in a picture that is `x` times as wide and `y` times as high."""
        return replace(self, boxes=self.boxes * np.array([x, y, x, y], np.float32))


@dataclass(frozen=True)
class ModelInfo:
    """What there is to know about a model.

    Attributes:
        name: of its file.
        sha256: of its file, in hexadecimal digits.
        labels: of its classes, by index.
        threshold: lowest score that counts.
        best_size: side in pixels of the pictures on which it sees best.
        size_multiple: pictures are padded to sides that are multiples of it.
        input_range: what white is in its input.
        fixed_size: height and width, if it takes pictures of one size only.
        batch_limit: most pictures in one call; None for any number.
        best_batch: pictures in one call with which it is fastest.
        runtime: what runs it, and on what.
    """

    name: str
    sha256: str
    labels: tuple[str, ...]
    threshold: float
    best_size: int
    size_multiple: int = 32
    input_range: InputRange = 255
    fixed_size: tuple[int, int] | None = None
    batch_limit: int | None = None
    best_batch: int = 1
    runtime: str = ""


class Detector(Protocol):
    """Finds damage in pictures. Safe to call from several threads."""

    @property
    def info(self) -> ModelInfo:
        """The model."""

    def detect(self, pictures: Sequence[Image]) -> list[Detections]:
        """Look at pictures, BGR, all of one size; return what reaches the threshold in each.

        Overlapping boxes for one damage are left in: see `merging`.

        If so many pictures do not fit into memory, what the runtime raises then goes out:
        `admission.is_out_of_memory` knows it, and fewer may fit.
        """
