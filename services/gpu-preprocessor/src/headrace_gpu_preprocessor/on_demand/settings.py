"""What detection on demand can be told by environment variables."""

from pydantic import Field

from headrace_common.contracts.cctv import MAX_CLIP_SECONDS
from headrace_common.settings import SettingsGroup

_MIB = 1024 * 1024


class OnDemandSettings(SettingsGroup):
    """What a request may cost.

    Requests hold at most (ON_DEMAND_CONCURRENCY + ON_DEMAND_WAITING) * ON_DEMAND_MAX_BYTES of
    bodies in memory, and ON_DEMAND_CONCURRENCY decoded pictures or clips.
    """

    on_demand_concurrency: int = Field(
        default=1, ge=1, le=32, description="Requests that are worked on at the same time"
    )
    on_demand_waiting: int = Field(
        default=4, ge=0, le=100, description="Further ones that may wait; more are 503"
    )
    on_demand_wait_seconds: float = Field(
        default=30, gt=0, le=600, description="How long they may wait; then 503"
    )
    on_demand_max_bytes: int = Field(
        default=20 * _MIB, ge=1_024, description="Largest picture file taken; more is 413"
    )
    on_demand_max_pixels: int = Field(
        default=25_000_000,
        ge=1,
        le=100_000_000,
        description="Most pixels of a picture, checked before it is decoded; more is 413",
    )
    on_demand_receive_seconds: float = Field(
        default=30, gt=0, le=600, description="How long a client may take to send; then 408"
    )
    on_demand_seconds: float = Field(
        default=10, gt=0, le=MAX_CLIP_SECONDS, description="Seconds of a video, unless asked for"
    )
    on_demand_max_seconds: float = Field(
        default=60, gt=0, le=MAX_CLIP_SECONDS, description="Most seconds of a video"
    )
