"""Detection quality: mAP by the COCO reference code, F1 at a threshold by greedy matching.

torchmetrics' mean average precision refuses to run without torchvision, which has no build for
the CPU version of torch used here; it wraps the same pycocotools code that is called directly.
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from road_damage.boxes import iou_matrix
from road_damage.config import CLASS_NAMES
from road_damage.dataset import Boxes, Classes, Sample
from road_damage.detections import Detections

MATCH_OVERLAP = 0.5


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each from 0 to 1, with the counts they stem from."""

    precision: float
    recall: float
    f1: float
    hits: int
    false_alarms: int
    misses: int

    @classmethod
    def of(cls, hits: int, false_alarms: int, misses: int) -> "Scores":
        """Scores of counts; an undefined ratio is 0."""
        precision = hits / max(1, hits + false_alarms)
        recall = hits / max(1, hits + misses)
        f1 = 2 * hits / max(1, 2 * hits + false_alarms + misses)
        return cls(precision, recall, f1, hits, false_alarms, misses)


@dataclass(frozen=True)
class Matches:
    """All detections of a set of images, marked as hit or false alarm.

    Attributes:
        scores: (K), highest first.
        hits: (K), whether the detection met a damage not met before.
        classes: (K).
        damages: Labelled damages of each class.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    classes: NDArray[np.int64]
    damages: NDArray[np.int64]

    def at(self, threshold: float, label: int | None = None) -> Scores:
        """Scores at a threshold, of one class or of all together."""
        chosen = self.scores >= threshold
        if label is not None:
            chosen &= self.classes == label
        total = int(self.damages.sum() if label is None else self.damages[label])
        hits = int(self.hits[chosen].sum())
        return Scores.of(hits, int(chosen.sum()) - hits, total - hits)

    def best_threshold(self) -> float:
        """The threshold of the highest F1 over all classes together."""
        if not len(self.scores):
            return 1.0
        hits = np.cumsum(self.hits)
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + self.damages.sum())
        # Equal scores cannot be told apart by a threshold: only the last of them counts.
        last = np.append(self.scores[1:] != self.scores[:-1], True)
        return float(self.scores[int(np.where(last, f1, -1.0).argmax())])

    def curve(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Recall and precision of one class as the threshold falls."""
        hits = np.cumsum(self.hits[self.classes == label])
        recall = hits / max(1, int(self.damages[label]))
        return recall, hits / np.arange(1, len(hits) + 1)


def match(samples: list[Sample], found: list[Detections]) -> Matches:
    """Match the detections of each image to its labels, by class, highest score first."""
    rows = []
    for sample, detected in zip(samples, found, strict=True):
        hits = match_image(sample.boxes, sample.classes, detected)
        rows.append((detected.scores.numpy(), hits, detected.classes.numpy()))
    scores, hit, classes = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.argsort(-scores, kind="stable")
    labels = np.concatenate([sample.classes for sample in samples])
    damages = np.bincount(labels, minlength=len(CLASS_NAMES))
    return Matches(scores[order].astype(np.float64), hit[order], classes[order], damages)


def match_image(boxes: Boxes, classes: Classes, found: Detections) -> NDArray[np.bool_]:
    """Whether each detection of an image meets a damage of its class that is still free."""
    hits = np.zeros(len(found.scores), dtype=bool)
    if not len(boxes):
        return hits
    overlap = iou_matrix(found.boxes, torch.from_numpy(boxes)).numpy()
    overlap[found.classes.numpy()[:, None] != classes[None, :]] = 0.0
    for index in range(len(hits)):
        target = int(overlap[index].argmax())
        if overlap[index, target] >= MATCH_OVERLAP:
            hits[index] = True
            overlap[:, target] = 0.0
    return hits


def average_precision(samples: list[Sample], found: list[Detections]) -> list[float]:
    """AP at IoU 0.5 of each class by pycocotools; nan for a class without damages."""
    truth = _coco_truth(samples)
    rows = [
        [image, *_corner_and_size(box), float(score), int(label) + 1]
        for image, detected in enumerate(found, start=1)
        for box, score, label in zip(*detected, strict=True)
    ]
    if not rows:
        return [0.0] * len(CLASS_NAMES)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(np.array(rows)), "bbox")
        evaluation.params.iouThrs = np.array([MATCH_OVERLAP])
        evaluation.evaluate()
        evaluation.accumulate()
    # Axes: IoU, recall, class, area range (0 is all), detection limit (the last is 100).
    precision = evaluation.eval["precision"][0, :, :, 0, -1]
    return [float(p.mean()) if p[0] >= 0 else float("nan") for p in precision.T]


def _coco_truth(samples: list[Sample]) -> COCO:
    annotations: list[dict[str, Any]] = []
    for image, sample in enumerate(samples, start=1):
        for box, label in zip(sample.boxes, sample.classes, strict=True):
            place = _corner_and_size(box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label) + 1,
                    "bbox": place,
                    "area": place[2] * place[3],
                    "iscrowd": 0,
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": image + 1} for image in range(len(samples))],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASS_NAMES)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _corner_and_size(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]
