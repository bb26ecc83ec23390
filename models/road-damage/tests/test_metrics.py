import numpy as np
import pytest
import torch

from road_damage import evaluate, metrics
from road_damage.dataset import Sample
from road_damage.detections import Detections, detections


def labelled(*rows: tuple[float, float, float, float, int]) -> Sample:
    array = np.array(rows, dtype=np.float32).reshape(-1, 5)
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    return Sample("road-crack-4class/x.jpg", image, array[:, :4], array[:, 4].astype(np.int64))


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


SAMPLES = [
    labelled((0, 0, 20, 20, 0), (50, 50, 90, 90, 3)),
    labelled((10, 10, 40, 20, 1)),
    labelled(),
]
FOUND = [
    found((0, 0, 20, 20, 0.9, 0), (1, 1, 21, 21, 0.8, 0), (50, 50, 90, 92, 0.3, 3)),
    found((10, 10, 40, 20, 0.6, 0)),
    found((5, 5, 30, 30, 0.2, 1)),
]


def test_matching_counts_doubles_and_wrong_classes_as_false_alarms() -> None:
    scores = metrics.match(SAMPLES, FOUND).at(0.25)
    assert (scores.hits, scores.false_alarms, scores.misses) == (2, 2, 1)
    assert scores.f1 == pytest.approx(4 / 7)


def test_each_class_has_its_own_scores() -> None:
    matches = metrics.match(SAMPLES, FOUND)
    assert matches.at(0.25, 3).f1 == 1.0
    assert matches.at(0.25, 1) == metrics.Scores.of(0, 0, 1)
    assert matches.at(0.1, 1).false_alarms == 1


def test_the_best_threshold_is_the_best_of_all_scores() -> None:
    matches = metrics.match(SAMPLES, FOUND)
    best = matches.at(matches.best_threshold()).f1
    assert best == max(matches.at(float(score)).f1 for score in matches.scores)


def test_perfect_detections_have_an_average_precision_of_one() -> None:
    every = [
        Detections(torch.from_numpy(s.boxes), torch.ones(len(s.boxes)), torch.from_numpy(s.classes))
        for s in SAMPLES
    ]
    ap = metrics.average_precision(SAMPLES, every)
    assert ap[:2] == pytest.approx([1.0, 1.0])
    assert np.isnan(ap[2])


def test_no_detections_have_an_average_precision_of_nought() -> None:
    assert metrics.average_precision(SAMPLES, [found()] * 3) == [0.0] * 4


def test_the_report_counts_false_alarms_on_images_without_damage() -> None:
    report = evaluate.report(SAMPLES, FOUND, 320, threshold=0.1)
    assert report.empty_images == 1
    assert report.false_alarms_per_empty_image == 1.0
    assert report.by_source["road-crack-4class"].hits == 2


def test_suppression_keeps_the_best_of_each_class() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 20], [1, 1, 21, 21], [60, 60, 80, 80]])
    scores = torch.tensor([[0.9, 0.0], [0.7, 0.6], [0.0, 0.5]])
    kept = detections(boxes, scores)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.6, 0.5])
    assert kept.classes.tolist() == [0, 1, 1]
