"""The road without its traffic, from one clip and what the camera showed before."""

from headrace_gpu_preprocessor.background.builder import Background, BackgroundBuilder
from headrace_gpu_preprocessor.background.memory import (
    CameraMemory,
    CameraStore,
    DirectoryCameraStore,
)
from headrace_gpu_preprocessor.background.merge import Source

__all__ = [
    "Background",
    "BackgroundBuilder",
    "CameraMemory",
    "CameraStore",
    "DirectoryCameraStore",
    "Source",
]
