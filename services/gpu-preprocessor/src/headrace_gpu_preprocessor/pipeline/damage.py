"""The second half of a job: damage is looked for in the stored background, and drawn."""

import json
from dataclasses import dataclass
from typing import Any

from headrace_common.artifact_sets import Findings, ModelRecord
from headrace_gpu_preprocessor.detection.analysis import DamageAnalysis, analyse
from headrace_gpu_preprocessor.detection.detector import Detector
from headrace_gpu_preprocessor.detection.drawing import draw, encode_jpeg
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.pipeline.stored_background import StoredBackground


@dataclass(frozen=True)
class DamageFiles:
    """The content of `damage_analysis.json` and `damage_result.jpg`."""

    document: bytes
    picture: bytes


def find_damage(
    background: StoredBackground, detector: Detector, settings: DetectionSettings
) -> DamageFiles:
    """Look for damage in a stored background.

    Raises:
        OutOfMemoryError: not even one tile at a time found room.
    """
    road = background.road
    analysis = analyse(background.picture, background.usable, road, detector, settings)
    drawn = draw(background.picture, analysis, usable_mask=background.usable, region_mask=road)
    return DamageFiles(_document(analysis, background), encode_jpeg(drawn))


def _document(analysis: DamageAnalysis, background: StoredBackground) -> bytes:
    """Return the analysis, tied to its picture by the picture's hash."""
    content = analysis.as_json()
    content["picture"]["sha256"] = background.meta["picture"]["sha256"]
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def findings(analysis: dict[str, Any], background: StoredBackground) -> Findings:
    """Return the result in figures.

    Args:
        analysis: the content of `damage_analysis.json`, as it is stored.
        background: that it is of.
    """
    meta = background.meta
    return Findings(
        quality=background.quality,
        damages=len(analysis["damages"]),
        damages_by_class={k: v for k, v in analysis["damages_by_class"].items() if v},
        damaged_share=analysis["damaged_share"],
        worst_severity=analysis["worst_severity"],
        summary={
            "low_quality": meta["low_quality"],
            "masked_share": analysis["masked_share"],
            "share_filled": meta["background"]["share_filled"],
            "clip_whole": meta["clip"]["whole"],
            "taken_at": meta["clip"]["taken_at"],
        },
    )


def model_record(analysis: dict[str, Any]) -> ModelRecord:
    """Return which model made a stored analysis: perhaps not the one that this process has."""
    model = analysis["model"]
    return ModelRecord(
        name=model["name"],
        sha256=model["sha256"],
        labels=tuple(model["labels"]),
        threshold=model["threshold"],
    )
