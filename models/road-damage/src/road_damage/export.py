"""Weights for use elsewhere: ONNX for onnxruntime, TorchScript for torch on a GPU, safetensors.

The ONNX model takes `images` (B, 3, H, W), float32 RGB from 0 to 255, sides multiples of 32, and
gives `boxes` (B, N, 4) in pixels and `scores` (B, N, classes). Thresholds and suppression are left
to the caller. Its metadata names the classes, the stride and the threshold.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from road_damage.config import CLASS_NAMES, EVALUATION_SIZE, SIZE_MULTIPLE
from road_damage.model import RoadDamageDetector

NAME = "road-damage"
OPSET = 18
CHECKED_SHAPES = ((1, 320, 320), (2, 256, 416), (1, 384, 640))
"""Batch, height and width of the comparisons; none but the first is traced."""

BOX_TOLERANCE = 0.05
"""Pixels. Sums run in another order in onnxruntime; the strides multiply what that changes."""

SCORE_TOLERANCE = 1e-3

HALF_BOX_TOLERANCE = 4.0
"""Pixels, for weights in half precision: the weakest cells move most."""

HALF_SCORE_TOLERANCE = 0.02


class ExportMismatchError(Exception):
    """An exported model does not compute what the trained one does."""


def export(
    model: RoadDamageDetector, folder: Path, *, threshold: float, size: int
) -> dict[str, float]:
    """Write the files and compare the ONNX and the TorchScript model with the trained one.

    Returns:
        The largest differences, of boxes in pixels and of scores.

    Raises:
        ExportMismatchError: A difference exceeds its tolerance; the file at fault is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = describe(threshold, size)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / f"{NAME}.safetensors", metadata=metadata)
    path = folder / f"{NAME}.onnx"
    write_onnx(model, path, metadata)
    differences = compare(model, onnx_runner(path))
    _accept(path, differences, BOX_TOLERANCE, SCORE_TOLERANCE)
    half = folder / f"{NAME}.ts"
    write_torchscript(model, half, metadata)
    halved = compare(model, torchscript_runner(half))
    _accept(half, halved, HALF_BOX_TOLERANCE, HALF_SCORE_TOLERANCE)
    return {**differences, **{f"half_{name}": value for name, value in halved.items()}}


def _accept(path: Path, differences: dict[str, float], boxes: float, scores: float) -> None:
    if differences["boxes"] > boxes or differences["scores"] > scores:
        path.unlink()
        raise ExportMismatchError(f"{path.name}, largest differences: {differences}")


def describe(threshold: float, size: int) -> dict[str, str]:
    """What a user of the model must know, as ONNX and safetensors metadata."""
    return {
        "classes": json.dumps(CLASS_NAMES),
        "threshold": f"{threshold:.4f}",
        "size_multiple": str(SIZE_MULTIPLE),
        "best_size": str(size),
        "input": "RGB, float32, 0-255, NCHW",
    }


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The weights of a file that `export` wrote."""
    return load_file(path)


def write_onnx(model: RoadDamageDetector, path: Path, metadata: dict[str, str]) -> None:
    """Export with free batch, height and width, all weights inside the one file."""
    batch = torch.export.Dim("batch", min=1, max=64)
    rows = torch.export.Dim("rows", min=2, max=64)
    columns = torch.export.Dim("columns", min=2, max=64)
    shape = {0: batch, 2: SIZE_MULTIPLE * rows, 3: SIZE_MULTIPLE * columns}
    example = torch.zeros(2, 3, EVALUATION_SIZE, EVALUATION_SIZE + SIZE_MULTIPLE)
    plain = RoadDamageDetector().eval()
    plain.load_state_dict(model.state_dict())
    torch.onnx.export(
        plain,
        (example,),
        path,
        input_names=["images"],
        output_names=["boxes", "scores"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=(shape,),
        external_data=False,
        verbose=False,
    )
    written = onnx.load(path)
    onnx.helper.set_model_props(written, metadata)
    _forget_origin(written)
    onnx.checker.check_model(written)
    onnx.save(written, path)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the stack traces that torch leaves in each node: they name paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""


@torch.no_grad()
def write_torchscript(model: RoadDamageDetector, path: Path, metadata: dict[str, str]) -> None:
    """Export with weights in half precision; heights and widths are read from the input."""
    plain = RoadDamageDetector().eval()
    plain.load_state_dict(model.state_dict())
    example = torch.zeros(2, 3, EVALUATION_SIZE, EVALUATION_SIZE + SIZE_MULTIPLE)
    traced = torch.jit.trace(plain, example, check_trace=False).half()
    torch.jit.save(traced, path, _extra_files={"metadata.json": json.dumps(metadata)})
    _forget_places(path)


def _forget_places(path: Path) -> None:
    """Drop the files that say where each line of code stood: they name paths of this machine."""
    with zipfile.ZipFile(path) as archive:
        kept = [(item, archive.read(item)) for item in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for item, data in kept:
            if not item.filename.endswith(".debug_pkl"):
                archive.writestr(item.filename, data)


Runner = Callable[[np.ndarray], list[np.ndarray]]


def onnx_runner(path: Path) -> Runner:
    """Run an ONNX file on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["boxes", "scores"], {"images": images})


def torchscript_runner(path: Path) -> Runner:
    """Run a TorchScript file on the CPU, which computes in single precision."""
    module = torch.jit.load(path, "cpu").float().eval()
    return lambda images: [output.numpy() for output in module(torch.from_numpy(images))]


@torch.no_grad()
def compare(model: RoadDamageDetector, run: Runner) -> dict[str, float]:
    """Largest absolute differences between an exported model and torch over several shapes."""
    random = np.random.default_rng(0)
    largest = {"boxes": 0.0, "scores": 0.0}
    for batch, height, width in CHECKED_SHAPES:
        images = random.uniform(0, 255, size=(batch, 3, height, width)).astype(np.float32)
        expected = model(torch.from_numpy(images))
        for name, mine, theirs in zip(largest, expected, run(images), strict=True):
            largest[name] = max(largest[name], float(np.abs(mine.numpy() - theirs).max()))
    return largest
