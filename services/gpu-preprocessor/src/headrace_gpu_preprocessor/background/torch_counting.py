"""Counting over a stack of samples with torch: for a GPU, and the same on the processor."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.counting import NEAR_LEVELS

_ALL_BITS: Final = (128, 64, 32, 16, 8, 4, 2, 1)


class TorchCounting:
    """Works on large pieces: a GPU waits for the transfer, not for the counting."""

    #: 150 rows of 50 samples of 1280 x 720 are 29 MB, and twice that while counting.
    rows = 150

    def __init__(self, device: str) -> None:
        """Count on a device as torch names it."""
        self._device = torch.device(device)

    def median(self, stack: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the lower median of each column, exactly."""
        samples = self._put(stack)
        half = (len(stack) - 1) // 2
        found = torch.zeros_like(samples[0])
        for bit in _ALL_BITS:
            candidate = found | bit
            below = (samples < candidate).sum(dim=0, dtype=torch.uint8)
            found = torch.where(below <= half, candidate, found)
        return _take(found)

    def mean_near(
        self, stack: NDArray[np.uint8], centre: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the mean of the samples near a centre, itself where none is, and their count."""
        samples, middle = self._put(stack), self._put(centre)
        low = middle.clamp(min=NEAR_LEVELS) - NEAR_LEVELS
        high = middle.clamp(max=255 - NEAR_LEVELS) + NEAR_LEVELS
        near = (samples >= low) & (samples <= high)
        count = near.sum(dim=0, dtype=torch.int32)
        total = (samples * near).sum(dim=0, dtype=torch.int32)
        divisor = count.clamp(min=1)
        mean = ((total + divisor // 2) // divisor).to(torch.uint8)
        return _take(torch.where(count > 0, mean, middle)), _take(count.to(torch.uint8))

    def _put(self, array: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def cuda_is_there() -> bool:
    """Return whether torch sees a GPU."""
    return bool(torch.cuda.is_available())


def _take(tensor: torch.Tensor) -> NDArray[np.uint8]:
    return np.asarray(tensor.cpu().numpy(), dtype=np.uint8)
