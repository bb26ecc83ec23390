"""A detector on torch: TorchScript models, on CUDA where there is one, else on the CPU.

torch is imported when a model is loaded: it is large, and optional.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from headrace_gpu_preprocessor.detection.detector import Detections, Image, ModelInfo
from headrace_gpu_preprocessor.detection.metadata import ModelError, Overrides, make_info
from headrace_gpu_preprocessor.detection.tensors import OutputError, pack, unpack

#: Files inside a TorchScript file that say what the model is: ours, and Ultralytics'.
_METADATA_FILES: Final = ("metadata.json", "config.txt")


class TorchScriptDetector:
    """Runs a TorchScript model."""

    def __init__(self, path: Path, overrides: Overrides, *, threads: int, device: str) -> None:
        """Load it.

        Args:
            path: of the file.
            overrides: see there.
            threads: on the CPU; torch has one number for the whole process.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            ModelError: torch is not installed, or the model cannot be loaded.
        """
        try:
            self._torch: Any = importlib.import_module("torch")
        except ImportError as error:
            raise ModelError("needs torch: install headrace-gpu-preprocessor[torch]") from error
        self._device = self._choose(device)
        if self._device == "cpu":
            self._torch.set_num_threads(threads)
        extra = dict.fromkeys(_METADATA_FILES, "")
        try:
            module = self._torch.jit.load(str(path), self._device, _extra_files=extra)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            raise ModelError(f"torch cannot load it: {reason}") from error
        module = module.eval()
        # Half precision is for GPUs: a CPU is slower with it, where it can be had at all.
        self._module = module.float() if self._device == "cpu" else module
        self._type = self._weights_type()
        metadata = _metadata(extra)
        self._info = make_info(
            path,
            metadata,
            overrides,
            input_range=1 if "names" in metadata else 255,
            fixed_size=None,
            batch_limit=None,
            on_gpu=self._device == "cuda",
            runtime=f"torch {self._torch.__version__} {self._device}",
        )

    @property
    def info(self) -> ModelInfo:
        """The model."""
        return self._info

    def detect(self, pictures: Sequence[Image]) -> list[Detections]:
        """See `Detector`."""
        if not pictures:
            return []
        batch, scale = pack(pictures, self._info)
        outputs = self._run(batch)
        found = unpack([output.detach().float().cpu().numpy() for output in outputs], self._info)
        return [one.scaled(1 / scale, 1 / scale) for one in found]

    def _run(self, batch: Any) -> list[Any]:
        torch = self._torch
        short: str | None = None
        given: Any = None
        try:
            with torch.inference_mode():
                images = torch.from_numpy(batch).to(self._device, self._type)
                given = self._module(images)
        except torch.OutOfMemoryError as error:
            short = str(error).partition(".")[0]
        if short is not None:
            # torch keeps freed memory for itself, in pieces that may not fit a smaller batch.
            torch.cuda.empty_cache()
            raise MemoryError(f"torch: {short}")
        outputs = list(given) if isinstance(given, tuple | list) else [given]
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            raise OutputError("gives something else than tensors")
        return outputs

    def _choose(self, device: str) -> str:
        has_cuda = bool(self._torch.cuda.is_available())
        if device == "cuda" and not has_cuda:
            raise ModelError("torch cannot use CUDA here; DETECTOR_DEVICE says it must")
        return "cuda" if has_cuda and device != "cpu" else "cpu"

    def _weights_type(self) -> Any:
        types = (weight.dtype for weight in self._module.parameters())
        return next((kind for kind in types if kind.is_floating_point), self._torch.float32)


def _metadata(files: Mapping[str, str | bytes]) -> dict[str, str]:
    """Read what the file carries; values as text, as ONNX has them."""
    for name in _METADATA_FILES:
        if not files[name]:
            continue
        try:
            found = json.loads(files[name])
        except ValueError as error:
            raise ModelError(f"its {name} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise ModelError(f"its {name} is no object")
        return {
            str(key): value if isinstance(value, str) else json.dumps(value)
            for key, value in found.items()
        }
    return {}
