"""Run a model over labelled images and sum up how well it did."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from road_damage import augment, metrics
from road_damage.batches import collate
from road_damage.config import CLASS_NAMES
from road_damage.dataset import SOURCES, Sample
from road_damage.detections import Detections, detections

BATCH = 16


class Model(Protocol):
    """Anything that maps images (B, 3, S, S) to boxes (B, N, 4) and scores (B, N, classes)."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]: ...  # noqa: D102


@dataclass(frozen=True)
class Report:
    """Quality on a set of images.

    Attributes:
        size: Input side in pixels.
        threshold: Score from which a detection counts for F1, precision and recall.
        map50: Mean of the classes' AP at IoU 0.5.
        overall: Scores of all classes together.
        ap50: AP by class name.
        by_class: Scores by class name, at the same threshold.
        by_source: Scores by data source, at the same threshold.
        empty_images: Images without damage, and false alarms per such image.
    """

    size: int
    images: int
    threshold: float
    map50: float
    overall: metrics.Scores
    ap50: dict[str, float]
    by_class: dict[str, metrics.Scores]
    by_source: dict[str, metrics.Scores]
    empty_images: int
    false_alarms_per_empty_image: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def run(model: Model, samples: list[Sample], size: int) -> tuple[list[Sample], list[Detections]]:
    """Detect in all samples, resized to a square; returns the resized samples beside them."""
    resized, found = [], []
    for start in range(0, len(samples), BATCH):
        part = [augment.letterbox(s, size) for s in samples[start : start + BATCH]]
        boxes, scores = model(collate(part).images)
        found += [detections(b, s) for b, s in zip(boxes, scores, strict=True)]
        resized += part
    return resized, found


def report(
    samples: list[Sample], found: list[Detections], size: int, threshold: float | None = None
) -> Report:
    """Sum up; without a threshold, the best one of these images is chosen."""
    matches = metrics.match(samples, found)
    limit = matches.best_threshold() if threshold is None else threshold
    ap = metrics.average_precision(samples, found)
    empty = [f for s, f in zip(samples, found, strict=True) if not len(s.classes)]
    alarms = sum(int((f.scores >= limit).sum()) for f in empty)
    return Report(
        size=size,
        images=len(samples),
        threshold=limit,
        map50=float(np.nanmean(ap)),
        overall=matches.at(limit),
        ap50=dict(zip(CLASS_NAMES, ap, strict=True)),
        by_class={name: matches.at(limit, i) for i, name in enumerate(CLASS_NAMES)},
        by_source=_by_source(samples, found, limit),
        empty_images=len(empty),
        false_alarms_per_empty_image=alarms / max(1, len(empty)),
    )


def _by_source(
    samples: list[Sample], found: list[Detections], threshold: float
) -> dict[str, metrics.Scores]:
    result = {}
    for source in SOURCES:
        pairs = [p for p in zip(samples, found, strict=True) if p[0].name.startswith(source)]
        if pairs:
            own, detected = (list(column) for column in zip(*pairs, strict=True))
            result[source] = metrics.match(own, detected).at(threshold)
    return result
