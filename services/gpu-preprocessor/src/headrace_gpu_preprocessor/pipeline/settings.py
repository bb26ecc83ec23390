"""Settings of what is done with one camera job."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from headrace_common.netguard import FetchLimits, NetGuard, NetworkPolicy
from headrace_common.settings import SettingsGroup, TextList, split_words
from headrace_gpu_preprocessor.background.device import Device
from headrace_gpu_preprocessor.video import ReadLimits
from headrace_gpu_preprocessor.video.limits import MAX_SAMPLES


class PipelineSettings(SettingsGroup):
    """Which streams are read, what a clip may cost, and which backgrounds are good enough."""

    hls_allowed_hosts: TextList = Field(
        default=(),
        description="The only hosts that streams may come from: `cam.example.org`, "
        "`*.example.org`, `10.20.0.5`, each also with `:port`; private addresses only if named "
        "here. Empty: any host whose addresses are all public",
    )
    hls_connect_seconds: float = Field(default=5, gt=0, le=60)
    hls_silence_seconds: float = Field(
        default=8, gt=0, le=120, description="A server silent for so long has stalled"
    )
    clip_samples: int = Field(
        default=50, ge=3, le=MAX_SAMPLES, description="Frames of a clip that make its background"
    )
    clip_extra_seconds: float = Field(
        default=30, gt=0, le=290, description="Reading may take the clip's length and so much more"
    )
    clip_memory_mib: int = Field(
        default=1024, ge=128, description="Address space of the decoder beyond its start"
    )
    clip_max_mib: int = Field(default=1024, ge=1, description="Bytes read of one stream, in all")
    clip_min_coverage: float = Field(
        default=0.5, gt=0, le=1, description="A clip with a smaller share of its length is none"
    )
    background_device: Device = Field(
        default="auto",
        description="What counts the samples: auto takes CUDA where torch has it, else numpy, "
        "faster than torch on a CPU; all give the same",
    )
    min_quality: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="A background below this is not used: the job is tried again later",
    )
    low_quality_retry_seconds: float = Field(
        default=600, gt=0, description="How much later: traffic needs time to flow again"
    )
    low_quality_at_last: Literal["accept", "fail"] = Field(
        default="accept",
        description="What the last attempt does with a background below MIN_QUALITY: deliver it, "
        "marked, with what it never saw masked; or fail",
    )
    jpeg_quality: int = Field(default=92, ge=50, le=100)
    camera_memory: Literal["swift", "directory", "off"] = Field(
        default="swift",
        description="Where the last good background of each camera is kept; replicas share it "
        "over Swift",
    )
    camera_memory_directory: Path = Path("camera-memory")

    _split_hosts = field_validator("hls_allowed_hosts", mode="before")(split_words)

    def guard(self) -> NetGuard:
        """Return the one way to a stream."""
        limits = FetchLimits(
            connect_seconds=self.hls_connect_seconds,
            silence_seconds=self.hls_silence_seconds,
            total_seconds=MAX_READ_SECONDS,
            max_bytes=self.clip_max_mib * 1024 * 1024,
        )
        return NetGuard(NetworkPolicy(self.hls_allowed_hosts), limits)

    def read_limits(self, seconds: float) -> ReadLimits:
        """Return what a clip of so many seconds may cost."""
        return ReadLimits(
            samples=self.clip_samples,
            wall_seconds=seconds + self.clip_extra_seconds,
            memory_bytes=self.clip_memory_mib * 1024 * 1024,
            total_bytes=self.clip_max_mib * 1024 * 1024,
            min_coverage=self.clip_min_coverage,
        )


#: Of one request: the clip's own deadline, of MAX_CLIP_SECONDS and 290 at most, is always nearer.
MAX_READ_SECONDS: Final = 900.0
