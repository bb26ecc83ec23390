"""Keeps evenly spread samples of a clip in fixed memory, however long it is."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.estimate import MAX_FRAMES

Image = NDArray[np.uint8]

#: Twice as many add less than 0.2 dB.
DEFAULT_SAMPLES: Final = 50


class Samples:
    """Takes frames as they come; when full, keeps every other and from then on takes half."""

    def __init__(self, most: int = DEFAULT_SAMPLES) -> None:
        """Make room for frames.

        Raises:
            ValueError: fewer than two, or more than can be counted.
        """
        if not 2 <= most <= MAX_FRAMES:
            raise ValueError(f"between 2 and {MAX_FRAMES} samples")
        self._most = most
        self._stride = 1
        self._seen = 0
        self.frames: list[Image] = []
        self.times: list[float] = []
        self.dropped = 0

    def add(self, frame: Image, time: float) -> None:
        """Offer a frame.

        Args:
            frame: BGR; of another size than the first it is dropped.
            time: clip time in seconds.
        """
        number, self._seen = self._seen, self._seen + 1
        if number % self._stride or (self.frames and frame.shape != self.frames[0].shape):
            self.dropped += 1
            return
        if len(self.frames) == self._most:
            self.dropped += self._most // 2
            self.frames = self.frames[::2]
            self.times = self.times[::2]
            self._stride *= 2
            if number % self._stride:
                self.dropped += 1
                return
        self.frames.append(np.ascontiguousarray(frame))
        self.times.append(time)
