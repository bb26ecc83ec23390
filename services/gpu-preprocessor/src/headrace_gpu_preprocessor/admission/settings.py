"""Settings of the memory guard (V6)."""

from typing import Literal

from pydantic import Field

from headrace_common.settings import SettingsGroup


class AdmissionSettings(SettingsGroup):
    """When a job may begin, by the memory it needs."""

    gpu_memory_guard: bool = Field(
        default=True, description="false: jobs begin whatever memory is free"
    )
    gpu_memory_reserve_mib: int = Field(
        default=512, ge=0, description="MiB that are left free beside what jobs need"
    )
    gpu_memory_job_mib: int = Field(
        default=1_024, ge=1, description="MiB that a job is taken to need until one was measured"
    )
    gpu_memory_probe: Literal["auto", "cuda", "nvml", "host"] = Field(
        default="auto",
        description="Where memory is measured: torch, the driver, or the host. auto: the first "
        "that works, in this order",
    )
    gpu_device: int = Field(default=0, ge=0, description="Index of the GPU")
