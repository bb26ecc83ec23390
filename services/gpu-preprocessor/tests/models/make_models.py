"""Writes the small foreign models that the tests load; they need onnx, which .venv has not.

    .tools/train/bin/python services/gpu-preprocessor/tests/models/make_models.py

A score is the brightest value of the picture, so that tests see what the input's range was.
"""

from pathlib import Path

import numpy as np
import onnx  # type: ignore[import-not-found]
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OPSET = helper.make_opsetid("", 18)


def constant(name: str, value: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def write(
    name: str,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    image: list[object],
    outputs: dict[str, list[object]],
    metadata: dict[str, str],
) -> None:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, v) for key, v in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[OPSET], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")


def yolo() -> None:
    """One output (1, 4 + 2, 3) in pixels of a picture of 64 x 96; white is 1."""
    boxes = np.array([[[32, 10, 70], [32, 10, 40], [20, 8, 16], [10, 8, 12]]], np.float32)
    shares = np.array([[[0.9, 0.0, 0.1], [0.0, 0.8, 0.2]]], np.float32)
    write(
        "yolo",
        [
            helper.make_node("ReduceMax", ["images", "axes"], ["brightest"], keepdims=0),
            helper.make_node("Mul", ["shares", "brightest"], ["scores"]),
            helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1),
        ],
        [
            constant("axes", np.array([0, 1, 2, 3], np.int64)),
            constant("boxes", boxes),
            constant("shares", shares),
        ],
        [1, 3, 64, 96],
        {"output0": [1, 6, 3]},
        {"names": "{0: 'crack', 1: 'hole'}", "imgsz": "[64, 96]", "stride": "32"},
    )


def plain() -> None:
    """Boxes and scores for any size and number of pictures; says nothing of itself."""
    boxes = np.array([[[4, 4, 20, 12], [40, 30, 60, 60]]], np.float32)
    scores = np.array([[[0.8, 0.1], [0.2, 0.6]]], np.float32)
    white = np.float32(1 / 255)
    write(
        "plain",
        [
            helper.make_node("ReduceMax", ["images", "axes"], ["four"], keepdims=1),
            helper.make_node("Squeeze", ["four", "last"], ["brightest"]),
            helper.make_node("Mul", ["brightest", "white"], ["share"]),
            helper.make_node("Mul", ["plan", "share"], ["scores"]),
            helper.make_node("Mul", ["share", "zero"], ["nothing"]),
            helper.make_node("Add", ["corners", "nothing"], ["boxes"]),
        ],
        [
            constant("axes", np.array([1, 2, 3], np.int64)),
            constant("last", np.array([3], np.int64)),
            constant("white", white),
            constant("zero", np.float32(0)),
            constant("corners", boxes),
            constant("plan", scores),
        ],
        ["batch", 3, "height", "width"],
        {"scores": ["batch", 2, 2], "boxes": ["batch", 2, 4]},
        {},
    )


def classifier() -> None:
    """No detector at all."""
    write(
        "classifier",
        [helper.make_node("ReduceMean", ["images", "axes"], ["logits"], keepdims=0)],
        [constant("axes", np.array([2, 3], np.int64))],
        ["batch", 3, "height", "width"],
        {"logits": ["batch", 3]},
        {"classes": '["a", "b", "c"]'},
    )


if __name__ == "__main__":
    yolo()
    plain()
    classifier()
