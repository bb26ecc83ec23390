"""Reads clips from HLS streams, which are hostile input."""

from headrace_gpu_preprocessor.video.limits import ReadLimits
from headrace_gpu_preprocessor.video.pool import DecoderPool
from headrace_gpu_preprocessor.video.reader import ClipReader, Frame
from headrace_gpu_preprocessor.video.report import ClipReport, Gap

__all__ = ["ClipReader", "ClipReport", "DecoderPool", "Frame", "Gap", "ReadLimits"]
