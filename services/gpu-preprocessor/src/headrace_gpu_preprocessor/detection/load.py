"""Finds the model that the settings name, and proves that it works before anything hangs on it."""

import importlib
from pathlib import Path
from typing import Final

import numpy as np

from headrace_common.settings import BadSettingsError
from headrace_gpu_preprocessor.detection.detector import Detector, InputRange
from headrace_gpu_preprocessor.detection.labels import LabelsError, read_labels
from headrace_gpu_preprocessor.detection.metadata import ModelError, Overrides
from headrace_gpu_preprocessor.detection.onnx import OnnxDetector
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.detection.tensors import OutputError
from headrace_gpu_preprocessor.detection.torchscript import TorchScriptDetector

#: The same weights twice: for onnxruntime, and in half precision for torch on a GPU.
_ONNX_WEIGHTS: Final = "road-damage.onnx"
_TORCH_WEIGHTS: Final = "road-damage.ts"
_KINDS: Final[dict[str, type[OnnxDetector | TorchScriptDetector]]] = {
    ".onnx": OnnxDetector,
    ".pt": TorchScriptDetector,
    ".ts": TorchScriptDetector,
    ".torchscript": TorchScriptDetector,
}
_RANGES: Final[dict[str, InputRange | None]] = {"auto": None, "1": 1, "255": 255}


def load_detector(settings: DetectionSettings) -> Detector:
    """Load the model and try it on a blank picture.

    Raises:
        BadSettingsError: it cannot be had, read or run, or is no detector of the labels' classes.
    """
    path = settings.detector_model or shipped_weights(settings.detector_device)
    try:
        detector = _load(path, settings)
        _try(detector)
    except LabelsError as error:
        raise BadSettingsError(f"bad settings:\n  DETECTOR_LABELS: {error}") from error
    except (ModelError, OutputError) as error:
        message = f"bad settings:\n  DETECTOR_MODEL: the model {path} {error}"
        raise BadSettingsError(message) from error
    return detector


def shipped_weights(device: str = "auto") -> Path:
    """Return the weights' file: beside this module in a wheel, among the models in a checkout.

    Args:
        device: DETECTOR_DEVICE: torch's file where torch has a GPU and may use it.

    Raises:
        BadSettingsError: in neither place.
    """
    name = _TORCH_WEIGHTS if device != "cpu" and _torch_has_cuda() else _ONNX_WEIGHTS
    here = Path(__file__).resolve()
    checkout = here.parents[min(5, len(here.parents) - 1)]
    places = (here.with_name(name), checkout / "models" / "road-damage" / "weights" / name)
    for place in places:
        if place.is_file():
            return place
    raise BadSettingsError(
        "bad settings:\n  DETECTOR_MODEL: not set, and the shipped weights are missing from this "
        "installation"
    )


def _torch_has_cuda() -> bool:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _load(path: Path, settings: DetectionSettings) -> Detector:
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ModelError(f"is of an unknown kind; known are {', '.join(_KINDS)}")
    if not path.is_file():
        raise ModelError("is not there")
    labels = read_labels(settings.detector_labels) if settings.detector_labels else None
    overrides = Overrides(
        labels=labels,
        threshold=settings.detector_threshold,
        best_size=settings.detector_size,
        input_range=_RANGES[settings.detector_input_range],
    )
    return kind(path, overrides, threads=settings.detector_threads, device=settings.detector_device)


def _try(detector: Detector) -> None:
    side = detector.info.best_size
    blank = np.full((side, side, 3), 114, np.uint8)
    try:
        detector.detect([blank, blank])
    except OutputError:
        raise
    except Exception as error:  # whatever a foreign model raises is the answer
        reason = str(error).strip().rpartition("\n")[2][:300]
        raise ModelError(f"fails on a picture of {side} x {side}: {reason}") from error
