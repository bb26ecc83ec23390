import json
from pathlib import Path

import cv2
import numpy as np
import torch

from road_damage import drawing
from road_damage.dataset import Sample
from road_damage.detections import Detections

SAMPLE = Sample(
    "source/a.jpg",
    np.zeros((100, 100, 3), dtype=np.uint8),
    np.array([[20, 30, 80, 60]], dtype=np.float32),
    np.array([3]),
)
FOUND = Detections(
    torch.tensor([[20.0, 30, 80, 60], [5, 5, 15, 15]]),
    torch.tensor([0.9, 0.1]),
    torch.tensor([3, 0]),
)


def test_labels_stand_left_and_detections_above_the_threshold_right() -> None:
    picture = drawing.side_by_side(SAMPLE, FOUND, 0.5)
    right = 100 + drawing.GAP
    assert tuple(picture[60, 50]) == drawing.COLOURS[3]
    assert tuple(picture[60, right + 50]) == drawing.COLOURS[3]
    assert not picture[14:16, right + 5 : right + 16].any()
    assert not np.any(np.all(picture == drawing.COLOURS[0], axis=-1))


def test_pictures_and_curves_are_readable_images(tmp_path: Path) -> None:
    drawing.examples([SAMPLE], [FOUND], 0.5, tmp_path / "examples", 10)
    drawing.precision_recall([SAMPLE], [FOUND], tmp_path / "curve.png")
    lines = [
        {"kind": "train", "step": 50, "loss": 3.0},
        {"kind": "valid", "step": 100, "map50": 0.3, "overall": {"f1": 0.4}},
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawing.history(tmp_path / "history.jsonl", tmp_path / "history.png")
    paths = [tmp_path / "examples" / "source_a.png", tmp_path / "curve.png"]
    for path in (*paths, tmp_path / "history.png"):
        assert cv2.imread(str(path)) is not None
