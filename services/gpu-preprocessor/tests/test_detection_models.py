"""Models of every convention, loaded from real files; and those that cannot work."""

import json
from pathlib import Path

import numpy as np
import pytest

from headrace_common.settings import BadSettingsError
from headrace_gpu_preprocessor.detection.detector import Detector, ModelInfo
from headrace_gpu_preprocessor.detection.labels import LabelsError, checked_labels, title_of
from headrace_gpu_preprocessor.detection.load import load_detector, shipped_weights
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.detection.tensors import OutputError, pack, unpack

MODELS = Path(__file__).parent / "models"
WHITE = np.full((64, 96, 3), 255, np.uint8)


def load(name: str, **settings: object) -> Detector:
    return load_detector(
        DetectionSettings.model_validate({"detector_model": MODELS / name, **settings})
    )


def label_map(directory: Path, value: object) -> Path:
    path = directory / "labels.json"
    path.write_text(json.dumps(value))
    return path


def test_the_shipped_model_says_what_it_is_and_finds_nothing_on_plain_grey() -> None:
    detector = load_detector(DetectionSettings())
    info = detector.info
    assert info.labels == ("D00", "D10", "D20", "D40")
    assert 0 < info.threshold < 1
    assert info.best_size % info.size_multiple == 0
    assert len(info.sha256) == 64
    assert info.runtime.startswith("onnxruntime")
    # Sides that are no multiples of its step are padded.
    found = detector.detect([np.full((200, 333, 3), 120, np.uint8)] * 3)
    assert [len(one) for one in found] == [0, 0, 0]
    assert detector.detect([]) == []


def test_the_shipped_model_gives_the_same_alone_and_in_a_batch() -> None:
    detector = load_detector(DetectionSettings(detector_threshold=0.02))
    random = np.random.default_rng(3)
    pictures = [random.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(3)]
    together = detector.detect(pictures)
    for picture, seen in zip(pictures, together, strict=True):
        (alone,) = detector.detect([picture])
        assert len(alone) == len(seen) > 0
        np.testing.assert_allclose(alone.boxes, seen.boxes, atol=0.05)
        np.testing.assert_allclose(alone.scores, seen.scores, atol=1e-4)


def test_the_weights_are_those_of_the_repository() -> None:
    assert shipped_weights().parts[-3:] == ("road-damage", "weights", "road-damage.onnx")


def test_a_yolo_model_of_a_fixed_size_and_batch() -> None:
    detector = load("yolo.onnx")
    info = detector.info
    assert info.labels == ("crack", "hole")
    assert (info.fixed_size, info.batch_limit, info.input_range) == ((64, 96), 1, 1)
    assert info.best_size == 64
    # Three pictures through a batch of one, each twice as large as the model takes.
    large = np.full((128, 192, 3), 255, np.uint8)
    for found in detector.detect([large] * 3):
        order = np.argsort(-found.scores)
        np.testing.assert_allclose(found.scores[order], [0.9, 0.8], atol=1e-6)
        assert found.classes[order].tolist() == [0, 1]
        np.testing.assert_allclose(found.boxes[order[0]], [44, 54, 84, 74], atol=1e-3)


def test_a_model_that_says_nothing_of_itself_needs_a_label_map(tmp_path: Path) -> None:
    with pytest.raises(BadSettingsError, match="names no classes; give a label map"):
        load("plain.onnx")
    detector = load(
        "plain.onnx",
        detector_labels=label_map(tmp_path, {"0": "rut", "1": "ravelling"}),
        detector_threshold=0.5,
        detector_size=64,
    )
    assert detector.info.labels == ("rut", "ravelling")
    (found,) = detector.detect([WHITE])
    assert found.classes.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.8, 0.6], atol=1e-6)
    # The outputs are taken by name, whatever their order.
    np.testing.assert_allclose(found.boxes, [[4, 4, 20, 12], [40, 30, 60, 60]])


def test_the_input_range_can_be_set(tmp_path: Path) -> None:
    labels = label_map(tmp_path, ["a", "b"])
    detector = load("plain.onnx", detector_labels=labels, detector_input_range="1")
    # The model takes 255 for white and is given 1: nothing reaches the threshold.
    assert len(detector.detect([WHITE])[0]) == 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("missing.onnx", {}, "is not there"),
        ("make_models.py", {}, "unknown kind; known are .onnx"),
        ("classifier.onnx", {}, r"needs boxes and scores, or one output .* has \(2, 3\)"),
        ("yolo.onnx", {"detector_device": "cuda"}, "cannot use CUDA here"),
    ],
)
def test_an_impossible_model_ends_the_start_with_one_line(
    name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(BadSettingsError, match=message) as caught:
        load(name, **settings)
    assert str(caught.value).startswith("bad settings:\n  DETECTOR_MODEL: ")
    assert str(caught.value).count("\n") == 1


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(BadSettingsError, match="onnxruntime cannot load it"):
        load_detector(DetectionSettings(detector_model=path))


def test_too_few_labels_for_the_model(tmp_path: Path) -> None:
    labels = label_map(tmp_path, ["only one"])
    with pytest.raises(BadSettingsError, match=r"with 1 labels it must be \(B, 5, N\)"):
        load("yolo.onnx", detector_labels=labels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"1": "a"}, "'0' is missing"),
        ([], "list of 1 to 100 names"),
        ("a", "list of 1 to 100 names"),
        (["a", ""], "1 to 60 characters"),
        (["a", 3], "1 to 60 characters"),
        (["a", "a"], "twice"),
    ],
)
def test_label_maps_that_are_none(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=message):
        checked_labels(value)
    with pytest.raises(BadSettingsError, match="DETECTOR_LABELS: the label map"):
        load("plain.onnx", detector_labels=label_map(tmp_path, value))


def test_titles_are_readable() -> None:
    assert title_of("D20") == "Alligator crack"
    assert title_of("lane_marking") == "Lane marking"


INFO = ModelInfo("m", "0" * 64, ("a", "b"), 0.5, 64)


def test_pictures_become_rgb_and_are_padded_below_and_at_the_right() -> None:
    picture = np.zeros((33, 64, 3), np.uint8)
    picture[..., 0] = 200  # blue
    batch, scale = pack([picture], INFO)
    assert batch.shape == (1, 3, 64, 64)
    assert scale == 1
    assert batch[0, 2, :33].min() == 200
    assert batch[0, 0, :33].max() == 0
    assert set(np.unique(batch[0, :, 33:])) == {114}


@pytest.mark.parametrize(
    "shapes",
    [[(1, 5, 4), (1, 6, 2)], [(1, 5, 4), (1, 5, 3)], [(1, 5, 3), (1, 5, 2)], [(5, 6)], []],
)
def test_outputs_that_are_no_detections(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(OutputError):
        unpack([np.zeros(shape, np.float32) for shape in shapes], INFO)


def test_only_the_best_candidates_are_looked_at() -> None:
    boxes = np.zeros((1, 2000, 4), np.float32)
    scores = np.linspace(0.5, 1, 4000, dtype=np.float32).reshape(1, 2000, 2)
    (found,) = unpack([boxes, scores], INFO)
    assert len(found) == 600
    assert found.scores.min() >= scores.ravel()[3400] - 1e-6
