"""Pictures for people: curves, and detections beside the labels."""

import json
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np

from road_damage import metrics
from road_damage.config import CLASS_NAMES
from road_damage.dataset import Image, Sample
from road_damage.detections import Detections

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ((230, 60, 60), (60, 200, 60), (70, 110, 250), (240, 200, 40))
"""RGB of D00, D10, D20, D40."""

LABEL_WIDTH = 1
DETECTION_WIDTH = 2
CAPTION_SCALE = 0.4
GAP = 8


def precision_recall(samples: list[Sample], found: list[Detections], path: Path) -> None:
    """Save the precision-recall curve of each class."""
    matches = metrics.match(samples, found)
    figure, axes = plt.subplots(figsize=(6, 5))
    for index, name in enumerate(CLASS_NAMES):
        recall, precision = matches.curve(index)
        axes.plot(recall, precision, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title("Precision and recall at IoU 0.5")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def history(lines: Path, path: Path) -> None:
    """Save the training curve of a run from its history file."""
    entries = [json.loads(line) for line in lines.read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    _plot(axes, entries, "train", lambda entry: entry["loss"], "training loss")
    axes.set(xlabel="step", ylabel="loss")
    quality = axes.twinx()
    _plot(quality, entries, "valid", lambda entry: entry["map50"], "mAP@50 (valid)", "o-g")
    _plot(quality, entries, "valid", lambda entry: entry["overall"]["f1"], "F1 (valid)", "s-r")
    quality.set(ylabel="mAP@50, F1", ylim=(0, 1))
    figure.legend(loc="upper center", ncols=3)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def _plot(
    axes: Any, entries: list[dict[str, Any]], kind: str, value: Any, label: str, style: str = "-"
) -> None:
    chosen = [entry for entry in entries if entry["kind"] == kind]
    axes.plot([entry["step"] for entry in chosen], [value(e) for e in chosen], style, label=label)


def examples(
    samples: list[Sample], found: list[Detections], threshold: float, folder: Path, count: int
) -> None:
    """Save evenly chosen images: the labels on the left half, the detections on the right."""
    folder.mkdir(parents=True, exist_ok=True)
    count = min(count, len(samples))
    for index in (number * len(samples) // count for number in range(count)):
        sample, detected = samples[index], found[index]
        name = sample.name.replace("/", "_").removesuffix(".jpg")
        picture = side_by_side(sample, detected, threshold)
        cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def side_by_side(sample: Sample, found: Detections, threshold: float) -> Image:
    """Labels and detections of one image as one picture, RGB."""
    left, right = sample.image.copy(), sample.image.copy()
    for box, label in zip(sample.boxes, sample.classes, strict=True):
        _draw(left, box, int(label), CLASS_NAMES[label], LABEL_WIDTH)
    for box, score, label in zip(*found, strict=True):
        if score >= threshold:
            caption = f"{CLASS_NAMES[label]} {score:.2f}"
            _draw(right, box.numpy(), int(label), caption, DETECTION_WIDTH)
    gap = np.full((left.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.hstack([left, gap, right])


def _draw(image: Image, box: Any, label: int, caption: str, width: int) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(image, (x1, y1), (x2, y2), COLOURS[label], width)
    place = (max(0, x1) + 2, max(10, y1 + 11))
    cv2.putText(image, caption, place, cv2.FONT_HERSHEY_SIMPLEX, CAPTION_SCALE, COLOURS[label], 1)
