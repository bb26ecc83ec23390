"""What detection can be told by environment variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from headrace_common.settings import SettingsGroup


class DetectionSettings(SettingsGroup):
    """The model, and how pictures go through it."""

    detector_model: Path | None = Field(
        default=None,
        description="An ONNX (.onnx) or TorchScript (.pt, .ts, .torchscript) file; the shipped "
        "model if unset",
    )
    detector_labels: Path | None = Field(
        default=None,
        description="Label map, a JSON list or an object index to name; goes before the names in "
        "the model's file",
    )
    detector_threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Lowest score that counts; the model's own if unset"
    )
    detector_size: int | None = Field(
        default=None,
        ge=32,
        le=4_096,
        description="Side in pixels at which the model sees best; the model's own if unset",
    )
    detector_input_range: Literal["auto", "1", "255"] = Field(
        default="auto",
        description="What white is in the model's input; auto: 255 for boxes and scores, 1 for a "
        "YOLO model",
    )
    detector_device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: CUDA where the runtime has it"
    )
    detector_threads: int = Field(
        default=2, ge=1, le=64, description="Threads of one detection on the CPU"
    )
    detector_batch: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Tiles in one call, halved while memory is short; if unset 8 on a GPU, and 1 "
        "on the CPU, where larger ones fall out of its cache and are a quarter slower",
    )
    detector_budget_megapixels: float = Field(
        default=1.05,
        gt=0,
        le=100,
        description="Pixels that the model may look at for one picture, in millions: more sees "
        "smaller damage and takes longer, about 0.33 s a million on two CPU threads",
    )
    camera_regions_file: Path | None = Field(
        default=None,
        description="JSON file with the road of cameras whose jobs do not say it, read again when "
        "it changes; the whole picture if unset",
    )
