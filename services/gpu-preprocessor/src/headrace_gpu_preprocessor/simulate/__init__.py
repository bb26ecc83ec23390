"""A road scene with known truth, and an HLS server for it: for tests, benchmarks and the demo."""

from headrace_gpu_preprocessor.simulate.hls import HlsFormat, read_video, write_hls
from headrace_gpu_preprocessor.simulate.road import Damage, Road
from headrace_gpu_preprocessor.simulate.scene import VARIANTS, Scene, Variant
from headrace_gpu_preprocessor.simulate.server import Handler, HlsServer, LiveLoop

__all__ = [
    "VARIANTS",
    "Damage",
    "Handler",
    "HlsFormat",
    "HlsServer",
    "LiveLoop",
    "Road",
    "Scene",
    "Variant",
    "read_video",
    "write_hls",
]
