"""Counting with torch gives what NumPy gives, to the bit.

Runs where torch is, as `test_torchscript.py` says.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no torch here; see test_torchscript.py")

from headrace_gpu_preprocessor.background.counting import NumpyCounting  # noqa: E402
from headrace_gpu_preprocessor.background.device import choose_counting  # noqa: E402
from headrace_gpu_preprocessor.background.estimate import estimate, median, votes  # noqa: E402
from headrace_gpu_preprocessor.background.torch_counting import TorchCounting  # noqa: E402

_DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def _frames(count: int, *, spread: int, seed: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    road = random.integers(0, 256, (61, 47, 3))
    noise = random.integers(-spread, spread + 1, (count, *road.shape))
    return list(np.clip(road + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("device", _DEVICES)
@pytest.mark.parametrize("count", [1, 2, 9, 50, 255])
@pytest.mark.parametrize("spread", [0, 3, 20, 255])
def test_all_results_are_equal(device: str, count: int, spread: int) -> None:
    frames = _frames(count, spread=spread)
    counting = TorchCounting(device)
    assert (median(frames, counting) == median(frames)).all()
    for found, known in (
        (estimate(frames, counting), estimate(frames)),
        (votes(frames, frames[0], counting), votes(frames, frames[0])),
    ):
        assert (found.picture == known.picture).all()
        assert (found.support == known.support).all()


@pytest.mark.parametrize("level", [0, 255])
def test_extremes_do_not_overflow(level: int) -> None:
    frames = [np.full((9, 4, 3), level, np.uint8)] * 255
    found = estimate(frames, TorchCounting("cpu"))
    assert (found.picture == level).all()
    assert (found.support == 1).all()


def test_the_device_is_chosen() -> None:
    expected = TorchCounting if torch.cuda.is_available() else NumpyCounting
    assert isinstance(choose_counting("auto"), expected)
    assert isinstance(choose_counting("cpu"), TorchCounting)
    assert isinstance(choose_counting("numpy"), NumpyCounting)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            choose_counting("cuda")
