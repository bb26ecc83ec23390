"""Where the samples are counted: NumPy, or torch on a GPU. The results are the same."""

import importlib.util
from functools import cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.background.counting import NumpyCounting

Device = Literal["auto", "numpy", "cpu", "cuda"]


class Counting(Protocol):
    """Counts over a stack of samples (samples x values, bytes)."""

    @property
    def rows(self) -> int:
        """Rows of a picture that make a good piece."""

    def median(self, stack: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the lower median of each column, exactly."""

    def mean_near(
        self, stack: NDArray[np.uint8], centre: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the mean of the samples near a centre, itself where none is; and their count."""


@cache
def choose_counting(device: Device = "auto") -> Counting:
    """Return what counts.

    Args:
        device: `auto` takes a GPU if torch is installed and sees one, else NumPy; `cpu` is torch
            on the processor, which gives the same and takes longer.

    Raises:
        RuntimeError: torch, or a GPU, was asked for and is not there.
    """
    if device == "numpy" or (device == "auto" and importlib.util.find_spec("torch") is None):
        return NumpyCounting()
    try:
        # Late: torch takes seconds and hundreds of megabytes.
        from headrace_gpu_preprocessor.background.torch_counting import (  # noqa: PLC0415
            TorchCounting,
            cuda_is_there,
        )
    except ImportError as error:
        raise RuntimeError("torch is not installed; the extra `torch` brings it") from error
    if device == "cpu":
        return TorchCounting("cpu")
    if cuda_is_there():
        return TorchCounting("cuda")
    if device == "cuda":
        raise RuntimeError("torch sees no CUDA device")
    return NumpyCounting()
