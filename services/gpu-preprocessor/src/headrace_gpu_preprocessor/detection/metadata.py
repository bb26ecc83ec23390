"""What a model's file says about itself.

The shipped model has the keys `classes`, `threshold`, `best_size` and `size_multiple`; Ultralytics'
exports have `names`, `imgsz` and `stride`. What the settings say goes before either.
"""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace_gpu_preprocessor.detection.detector import (
    CPU_BATCH,
    GPU_BATCH,
    InputRange,
    ModelInfo,
)
from headrace_gpu_preprocessor.detection.labels import LabelsError, checked_labels

#: Where neither the file nor the settings say: what most detectors are trained on.
_DEFAULT_SIZE: Final = 640
_DEFAULT_MULTIPLE: Final = 32
_DEFAULT_THRESHOLD: Final = 0.3
_SIZES: Final = range(32, 4097)
_MULTIPLES: Final = range(1, 257)


class ModelError(Exception):
    """A model that cannot be used; the message says why."""


@dataclass(frozen=True)
class Overrides:
    """What goes before what a model's file says; None leaves it.

    Attributes:
        labels: of the classes.
        threshold: lowest score that counts.
        best_size: side of the pictures.
        input_range: what white is.
    """

    labels: tuple[str, ...] | None = None
    threshold: float | None = None
    best_size: int | None = None
    input_range: InputRange | None = None


def make_info(
    path: Path,
    metadata: Mapping[str, str],
    overrides: Overrides,
    *,
    input_range: InputRange,
    fixed_size: tuple[int, int] | None,
    batch_limit: int | None,
    on_gpu: bool,
    runtime: str,
) -> ModelInfo:
    """Put together what is known of a model.

    Args:
        path: of its file.
        metadata: that the file carries.
        overrides: of the settings.
        input_range: that its outputs suggest, unless the settings say otherwise.
        fixed_size: see `ModelInfo`.
        batch_limit: see `ModelInfo`.
        on_gpu: whether a GPU runs it.
        runtime: see `ModelInfo`.

    Raises:
        ModelError: it names no classes, or nonsense.
    """
    size = overrides.best_size or _size(metadata)
    multiple = int(_number(metadata, ("size_multiple", "stride"), _DEFAULT_MULTIPLE))
    threshold = overrides.threshold
    if threshold is None:
        threshold = _number(metadata, ("threshold",), _DEFAULT_THRESHOLD)
    if size not in _SIZES or multiple not in _MULTIPLES or not 0 < threshold < 1:
        raise ModelError(
            f"makes no sense: side {size}, sides in steps of {multiple}, threshold {threshold}"
        )
    return ModelInfo(
        name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        labels=overrides.labels or _labels(metadata),
        threshold=threshold,
        best_size=min(fixed_size) if fixed_size else size,
        size_multiple=multiple,
        input_range=overrides.input_range or input_range,
        fixed_size=fixed_size,
        batch_limit=batch_limit,
        best_batch=GPU_BATCH if on_gpu else CPU_BATCH,
        runtime=runtime,
    )


def _labels(metadata: Mapping[str, str]) -> tuple[str, ...]:
    text = metadata.get("classes") or metadata.get("names")
    if not text:
        raise ModelError("names no classes; give a label map (DETECTOR_LABELS)")
    try:
        return checked_labels(_literal(text))
    except (ValueError, LabelsError) as error:
        raise ModelError(f"names its classes in a way that cannot be read: {error}") from error


def _literal(text: str) -> object:
    """Read JSON, or the Python literal that some exporters write."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _size(metadata: Mapping[str, str]) -> int:
    if "best_size" in metadata or "imgsz" not in metadata:
        return int(_number(metadata, ("best_size",), _DEFAULT_SIZE))
    sides = _literal_list(metadata["imgsz"])
    if not sides:
        raise ModelError(f"has a picture size that cannot be read: {metadata['imgsz']!r}")
    return min(sides)


def _literal_list(text: str) -> list[int]:
    try:
        value = _literal(text)
    except ValueError:
        return []
    values = value if isinstance(value, list | tuple) else [value]
    return [side for side in values if isinstance(side, int)]


def _number(metadata: Mapping[str, str], names: tuple[str, ...], default: float) -> float:
    text = next((metadata[name] for name in names if name in metadata), None)
    if text is None:
        return default
    try:
        return float(text)
    except ValueError as error:
        raise ModelError(f"has {names[0]} {text!r}, which is no number") from error
