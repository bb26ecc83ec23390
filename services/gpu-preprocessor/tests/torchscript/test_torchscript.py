"""TorchScript models, in an environment with torch and without the services' packages:

    cd services/gpu-preprocessor/tests/torchscript && \
        ../../../../.tools/train/bin/python -m pytest -p no:cacheprovider
"""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no torch here; see this file's first lines")

from headrace_gpu_preprocessor.detection.metadata import ModelError, Overrides  # noqa: E402
from headrace_gpu_preprocessor.detection.torchscript import TorchScriptDetector  # noqa: E402

METADATA = {"classes": ["crack", "hole"], "threshold": 0.5, "best_size": 64, "size_multiple": 32}
WHITE = np.full((64, 96, 3), 255, np.uint8)


class TwoOutputs(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Scores are the brightest value, as a share of 255."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor([[[0.8, 0.1], [0.2, 0.6]]]))
        self.register_buffer("boxes", torch.tensor([[[4.0, 4, 20, 12], [40, 30, 60, 60]]]))

    def forward(self, images):  # type: ignore[no-untyped-def]
        bright = images.amax(dim=(1, 2, 3)) / 255
        boxes = self.boxes.expand(images.shape[0], 2, 4)
        return boxes, self.share * bright[:, None, None]


class Yolo(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        rows = [[32.0, 10], [32, 10], [20, 8], [10, 8], [0.9, 0], [0, 0.8]]
        self.rows = torch.nn.Parameter(torch.tensor([rows]))

    def forward(self, images):  # type: ignore[no-untyped-def]
        return self.rows.expand(images.shape[0], 6, 2)


def save(module: object, path: Path, extra: dict[str, str]) -> Path:
    scripted = torch.jit.script(module)
    torch.jit.save(scripted, str(path), _extra_files=extra)
    return path


def load(
    path: Path, overrides: Overrides | None = None, device: str = "auto"
) -> TorchScriptDetector:
    return TorchScriptDetector(path, overrides or Overrides(), threads=1, device=device)


@pytest.mark.parametrize("half", [False, True])
def test_two_outputs_in_whole_and_half_precision(*, half: bool, tmp_path: Path) -> None:
    module = TwoOutputs().half() if half else TwoOutputs()
    path = save(module, tmp_path / "m.ts", {"metadata.json": json.dumps(METADATA)})
    detector = load(path)
    assert detector.info.labels == ("crack", "hole")
    assert (detector.info.threshold, detector.info.best_size) == (0.5, 64)
    assert detector.info.runtime.startswith("torch ")
    for found in detector.detect([WHITE] * 3):
        assert found.classes.tolist() == [0, 1]
        np.testing.assert_allclose(found.scores, [0.8, 0.6], atol=1e-3)
        np.testing.assert_allclose(found.boxes, [[4, 4, 20, 12], [40, 30, 60, 60]])
    assert detector.detect([WHITE // 4])[0].scores.tolist() == []
    assert detector.detect([]) == []


def test_a_yolo_model_as_ultralytics_exports_it(tmp_path: Path) -> None:
    config = {"names": {"0": "crack", "1": "hole"}, "imgsz": [64, 64], "stride": 32}
    detector = load(save(Yolo(), tmp_path / "m.torchscript", {"config.txt": json.dumps(config)}))
    assert detector.info.labels == ("crack", "hole")
    assert (detector.info.best_size, detector.info.input_range) == (64, 1)
    (found,) = detector.detect([WHITE])
    np.testing.assert_allclose(found.scores, [0.9, 0.8], atol=1e-6)
    np.testing.assert_allclose(found.boxes[0], [22, 27, 42, 37], atol=1e-4)


def test_without_metadata_the_labels_must_be_given(tmp_path: Path) -> None:
    path = save(Yolo(), tmp_path / "m.pt", {})
    with pytest.raises(ModelError, match="names no classes"):
        load(path)
    assert load(path, Overrides(labels=("a", "b"))).info.best_size == 640


def test_files_that_are_no_models(tmp_path: Path) -> None:
    broken = tmp_path / "m.pt"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match="torch cannot load it"):
        load(broken)
    weights = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(3)}, weights)
    with pytest.raises(ModelError, match="torch cannot load it"):
        load(weights)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_must_be_there_if_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot use CUDA here"):
        load(save(Yolo(), tmp_path / "m.pt", {}), device="cuda")


def test_memory_that_runs_short_is_said_plainly(tmp_path: Path) -> None:
    class Starving(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, images: object) -> object:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    detector = load(save(Yolo(), tmp_path / "m.pt", {}), Overrides(labels=("a", "b")))
    detector._module = Starving()
    with pytest.raises(MemoryError, match="CUDA out of memory"):
        detector.detect([WHITE])
