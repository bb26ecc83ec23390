"""Finds and measures the damage in one picture: `damage_analysis.json`.

The same picture, masks and model give the same analysis: there is no time in it.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.detection import metrics
from headrace_gpu_preprocessor.detection.batches import run_batched
from headrace_gpu_preprocessor.detection.detector import Detector, Image, ModelInfo
from headrace_gpu_preprocessor.detection.labels import title_of
from headrace_gpu_preprocessor.detection.merging import Sight, merge, place
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.detection.severity import Severity, severity
from headrace_gpu_preprocessor.detection.tiling import Plan, cut_out, make_plan

Mask = NDArray[np.bool_]
Counts = NDArray[np.int32]

VERSION: Final = 1
#: A box with less than this share of its area on usable road does not count.
MIN_ON_ROAD: Final = 0.5
_MEGA: Final = 1_000_000


@dataclass(frozen=True)
class Damage:
    """One damage.

    Attributes:
        id: from 1, by falling score.
        label: code of the class.
        title: of the class, for people.
        score: 0 to 1, four digits.
        xyxy: of the box, in pixels, one digit.
        area_pixels: of the box, as far as it lies on usable road.
        share_of_road: that area as a share of the usable road.
        severity: see `severity`.
    """

    id: int
    label: str
    title: str
    score: float
    xyxy: tuple[float, float, float, float]
    area_pixels: int
    share_of_road: float
    severity: Severity


@dataclass(frozen=True)
class DamageAnalysis:
    """What was found in a picture.

    Attributes:
        model: that found it.
        width: of the picture.
        height: of the picture.
        region_pixels: of the road.
        road_pixels: of the road where it is usable; only there damage counts.
        plan: what the model looked at.
        damages: by falling score.
        damaged_pixels: of all boxes together on usable road; overlaps count once.
    """

    model: ModelInfo
    width: int
    height: int
    region_pixels: int
    road_pixels: int
    plan: Plan
    damages: tuple[Damage, ...]
    damaged_pixels: int

    @property
    def damaged_share(self) -> float:
        """Damaged share of the usable road, by area."""
        return _share(self.damaged_pixels, self.road_pixels)

    @property
    def masked_share(self) -> float:
        """Share of the road that was not usable."""
        return _share(self.region_pixels - self.road_pixels, self.region_pixels)

    @property
    def worst_severity(self) -> Severity | None:
        """Of all damages; None without any."""
        return max((damage.severity for damage in self.damages), key=_rank, default=None)

    @property
    def damages_by_class(self) -> dict[str, int]:
        """How many there are of each of the model's classes, 0 included."""
        found = [damage.label for damage in self.damages]
        return {label: found.count(label) for label in self.model.labels}

    def as_json(self) -> dict[str, Any]:
        """Return the content of `damage_analysis.json`."""
        tiles = self.plan.tiles
        return {
            "version": VERSION,
            "model": {
                "name": self.model.name,
                "sha256": self.model.sha256,
                "labels": list(self.model.labels),
                "threshold": self.model.threshold,
                "input_size": self.model.best_size,
            },
            "picture": {"width": self.width, "height": self.height},
            "views": {
                "whole_scale": round(self.plan.whole.scale, 4),
                "tiles": len(tiles),
                "tile_scale": round(tiles[0].scale, 4) if tiles else None,
            },
            "region_pixels": self.region_pixels,
            "road_pixels": self.road_pixels,
            "masked_share": self.masked_share,
            "damages": [_damage_json(damage) for damage in self.damages],
            "damages_by_class": self.damages_by_class,
            "damaged_pixels": self.damaged_pixels,
            "damaged_share": self.damaged_share,
            "worst_severity": self.worst_severity,
        }

    def as_bytes(self) -> bytes:
        """Return `damage_analysis.json` itself; the same bytes for the same analysis."""
        return (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode()


def analyse(
    picture_bgr: Image,
    usable_mask: Mask | None,
    region_mask: Mask | None,
    detector: Detector,
    settings: DetectionSettings,
) -> DamageAnalysis:
    """Find the damage in a picture.

    Args:
        picture_bgr: height x width x 3.
        usable_mask: where the picture shows the road as it is; None for everywhere.
        region_mask: where the road is; None for everywhere.
        detector: the model.
        settings: budget and batch size.

    Raises:
        ValueError: a mask has another size than the picture.
        OutOfMemoryError: not even one tile fits.
    """
    started = time.perf_counter()
    height, width = picture_bgr.shape[:2]
    region = _mask(region_mask, height, width)
    road = _mask(usable_mask, height, width) & region
    info = detector.info
    plan = make_plan(
        road,
        info.best_size,
        settings.detector_budget_megapixels * _MEGA,
        square=info.fixed_size is not None,
    )
    sights = _look(picture_bgr, plan, detector, settings.detector_batch or info.best_batch)
    road_pixels, widths = int(road.sum()), region.sum(axis=1)
    damages = _measure(sights, road, road_pixels, widths, info)
    damaged = _damaged(damages, road)
    metrics.observe(damages, seconds=time.perf_counter() - started)
    return DamageAnalysis(
        info, width, height, int(region.sum()), road_pixels, plan, damages, damaged
    )


def _mask(mask: Mask | None, height: int, width: int) -> Mask:
    if mask is None:
        return np.ones((height, width), bool)
    if mask.shape != (height, width):
        raise ValueError(f"a mask of {mask.shape} for a picture of {(height, width)}")
    return mask.astype(bool, copy=False)


def _look(picture: Image, plan: Plan, detector: Detector, batch_size: int) -> list[Sight]:
    whole, tiles = cut_out(picture, plan)
    found = run_batched(whole, detector.detect, 1)
    found += run_batched(tiles, detector.detect, batch_size)
    views = (plan.whole, *plan.tiles)
    height, width = picture.shape[:2]
    return merge([place(one, view, width, height) for one, view in zip(found, views, strict=True)])


def _measure(
    sights: Sequence[Sight],
    road: Mask,
    road_pixels: int,
    widths: NDArray[np.int_],
    info: ModelInfo,
) -> tuple[Damage, ...]:
    counts = np.asarray(cv2.integral(road.astype(np.uint8)), dtype=np.int32)
    damages: list[Damage] = []
    for sight in sights:
        x1, y1, x2, y2 = (round(float(side), 1) for side in sight.box)
        left, top, right, bottom = _pixels((x1, y1, x2, y2), road.shape)
        area = int(
            counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]
        )
        if area <= MIN_ON_ROAD * (right - left) * (bottom - top):
            continue
        label, score = info.labels[sight.label], round(sight.score, 4)
        judged = severity(
            label,
            width=x2 - x1,
            height=y2 - y1,
            road_width=float(widths[top:bottom].mean()),
            score=score,
            threshold=info.threshold,
        )
        share = _share(area, road_pixels)
        number = len(damages) + 1
        damages.append(
            Damage(number, label, title_of(label), score, (x1, y1, x2, y2), area, share, judged)
        )
    return tuple(damages)


def _damaged(damages: Sequence[Damage], road: Mask) -> int:
    """Return how many pixels of usable road lie in any box."""
    covered = np.zeros(road.shape, bool)
    for damage in damages:
        left, top, right, bottom = _pixels(damage.xyxy, road.shape)
        covered[top:bottom, left:right] = True
    return int((covered & road).sum())


def _pixels(
    xyxy: tuple[float, float, float, float], shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Return the pixels of a box: at least one each way, within the picture."""
    left, top = min(int(xyxy[0]), shape[1] - 1), min(int(xyxy[1]), shape[0] - 1)
    right = min(shape[1], max(left + 1, round(xyxy[2])))
    bottom = min(shape[0], max(top + 1, round(xyxy[3])))
    return left, top, right, bottom


def _damage_json(damage: Damage) -> dict[str, Any]:
    return {
        "id": damage.id,
        "class": damage.label,
        "title": damage.title,
        "score": damage.score,
        "xyxy": list(damage.xyxy),
        "area_pixels": damage.area_pixels,
        "share_of_road": damage.share_of_road,
        "severity": damage.severity,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _rank(value: Severity) -> int:
    return value.rank
