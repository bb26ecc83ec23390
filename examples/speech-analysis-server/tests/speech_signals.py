"""Signals whose pitch is known, and files made of them."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RECORDINGS = Path(__file__).parents[2] / "recordings"

Samples = NDArray[np.float64]


def voice(frequencies: Samples | float, *, seconds: float = 1.0, rate: int = 16_000) -> Samples:
    """Return a buzz of ten harmonics that follows `frequencies` over its length."""
    count = int(seconds * rate)
    hertz = np.interp(
        np.linspace(0, 1, count),
        np.linspace(0, 1, np.size(frequencies)),
        np.atleast_1d(frequencies),
    )
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    harmonics = np.arange(1, 11)
    buzz: Samples = 0.2 * np.sum(
        np.sin(phase[None, :] * harmonics[:, None]) / harmonics[:, None], axis=0
    )
    return buzz


def silence(seconds: float, rate: int = 16_000) -> Samples:
    return np.zeros(int(seconds * rate))


def noise(seconds: float, rate: int = 16_000) -> Samples:
    return np.random.default_rng(7).normal(0, 0.1, int(seconds * rate))


#: Container and codec of each kind of file that is accepted.
KINDS: dict[str, tuple[str, str]] = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "m4a": ("mp4", "aac"),
    "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"),
}


def write(path: Path, samples: Samples, *, rate: int = 16_000, kind: str = "wav") -> Path:
    """Write samples (one row a channel) as a file of `kind`."""
    container_format, codec_name = KINDS[kind]
    channels = np.atleast_2d(samples)
    layout = "mono" if len(channels) == 1 else "stereo"
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec_name, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        data = np.ascontiguousarray(channels.T.reshape(1, -1), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(data, format="flt", layout=layout)
        frame.sample_rate = rate
        codec = stream.codec_context
        resampler = av.AudioResampler(
            format=codec.format,
            layout=layout,
            rate=codec.sample_rate,
            frame_size=codec.frame_size or None,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path
