"""A detector on onnxruntime: on the CPU, or on CUDA where its build has it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from headrace_gpu_preprocessor.detection.detector import Detections, Image, ModelInfo
from headrace_gpu_preprocessor.detection.metadata import ModelError, Overrides, make_info
from headrace_gpu_preprocessor.detection.tensors import pack, unpack

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_ERRORS_ONLY: Final = 3


class OnnxDetector:
    """Runs an ONNX model."""

    def __init__(self, path: Path, overrides: Overrides, *, threads: int, device: str) -> None:
        """Load it.

        Args:
            path: of the file.
            overrides: see there.
            threads: on the CPU.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            ModelError: it cannot be loaded, or takes something else than pictures.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Idle threads sleep instead of spinning: the video decoders need the processors too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # its errors have no base of their own
            raise ModelError(f"onnxruntime cannot load it: {_first_line(error)}") from error
        used = self._session.get_providers()[0]
        if device == "cuda" and used != _CUDA:
            raise ModelError("onnxruntime cannot use CUDA here; DETECTOR_DEVICE says it must")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._input = _only_input(inputs)
        self._type = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self._outputs = _output_names([output.name for output in outputs])
        shape = inputs[0].shape
        self._info = make_info(
            path,
            dict(self._session.get_modelmeta().custom_metadata_map),
            overrides,
            input_range=255 if len(self._outputs) == 2 else 1,
            fixed_size=(shape[2], shape[3]) if _fixed(shape[2], shape[3]) else None,
            batch_limit=shape[0] if _fixed(shape[0]) else None,
            on_gpu=used == _CUDA,
            runtime=f"onnxruntime {onnxruntime.__version__} {used}",
        )

    @property
    def info(self) -> ModelInfo:
        """The model."""
        return self._info

    def detect(self, pictures: Sequence[Image]) -> list[Detections]:
        """See `Detector`."""
        if not pictures:
            return []
        found: list[Detections] = []
        step = self._info.batch_limit or len(pictures)
        for start in range(0, len(pictures), step):
            part = list(pictures[start : start + step])
            batch, scale = pack(part + part[-1:] * (self._missing(part)), self._info)
            seen = unpack(self._run(batch.astype(self._type, copy=False)), self._info)
            found += [one.scaled(1 / scale, 1 / scale) for one in seen[: len(part)]]
        return found

    def _missing(self, part: Sequence[Image]) -> int:
        """Return how many pictures a model of a fixed batch still needs."""
        return (self._info.batch_limit or len(part)) - len(part)

    def _run(self, batch: Any) -> list[Any]:
        return list(self._session.run(self._outputs, {self._input: batch}))


def _providers(device: str) -> list[str]:
    available = onnxruntime.get_available_providers()
    return [_CUDA, _CPU] if device != "cpu" and _CUDA in available else [_CPU]


def _only_input(inputs: Sequence[Any]) -> str:
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise ModelError(f"must have one input (B, 3, H, W), has {shapes}")
    if inputs[0].type not in {"tensor(float)", "tensor(float16)"}:
        raise ModelError(f"takes {inputs[0].type}, must take floating-point numbers")
    if _fixed(inputs[0].shape[1]) and inputs[0].shape[1] != 3:
        raise ModelError(f"takes pictures of {inputs[0].shape[1]} channels, must take 3")
    return str(inputs[0].name)


def _output_names(names: list[str]) -> list[str]:
    """Return which outputs are asked for: boxes and scores by name, else all."""
    return ["boxes", "scores"] if {"boxes", "scores"} <= set(names) else names


def _fixed(*sides: object) -> bool:
    return all(isinstance(side, int) and side > 0 for side in sides)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
