"""Decoding a recording of any common kind to mono samples, without trusting the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.error import FFmpegError

from headrace_analysis import AnalysisError
from speech_analysis_server.values import FloatArray, Warnings

#: Pitch and intensity of speech need nothing above 8 kHz; a lower rate is kept as it is.
ANALYSIS_RATE_HZ: Final = 16_000
#: Praat's pitch window at a floor of 60 Hz takes 50 ms, its intensity window at 100 Hz 64 ms.
SHORTEST_SECONDS: Final = 0.075
#: FFmpeg would otherwise also open playlists and scripts, which name further files and URLs.
_FORMATS: Final = "wav,w64,aiff,flac,ogg,mp3,aac,mov,matroska"
_READABLE: Final = "a readable recording: WAV, FLAC, OGG, MP3, M4A/AAC and WebM are understood"


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded recording: mono, full scale is -1 to 1.

    Attributes:
        samples: amplitudes.
        rate: samples per second.
        source_rate: samples per second before decoding.
        channels: channels before mixing down.
        codec: FFmpeg's name of the codec.
    """

    samples: FloatArray
    rate: int
    source_rate: int
    channels: int
    codec: str

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def decode(path: Path, *, max_seconds: float, warnings: Warnings) -> Recording:
    """Decode the first audio stream of a file.

    Args:
        path: the file; its name does not matter.
        max_seconds: longest recording that is taken; decoding stops there, however much a
            small file unpacks to.
        warnings: receives `audio_damaged` where only the file's beginning could be decoded.

    Raises:
        AnalysisError: final; `audio_unreadable`, `audio_too_short` or `audio_too_long`.
    """
    try:
        with av.open(
            str(path), options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        ) as container:
            recording = _decode_stream(container, max_seconds, warnings)
    except FFmpegError as error:
        raise AnalysisError("audio_unreadable", f"The file is not {_READABLE}") from error
    if recording.duration < SHORTEST_SECONDS:
        raise AnalysisError(
            "audio_too_short",
            f"The recording lasts {recording.duration * 1000:.0f} ms; "
            f"at least {SHORTEST_SECONDS * 1000:.0f} ms are needed",
        )
    return recording


def _decode_stream(
    container: av.container.InputContainer, max_seconds: float, warnings: Warnings
) -> Recording:
    if not container.streams.audio:
        raise AnalysisError("audio_unreadable", "The file has no sound in it")
    stream = container.streams.audio[0]
    source_rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    if source_rate <= 0:
        raise AnalysisError("audio_unreadable", f"The file is not {_READABLE}")
    rate = min(source_rate, ANALYSIS_RATE_HZ)
    resampler = av.AudioResampler(format="fltp", rate=rate)
    most = int(max_seconds * rate)
    chunks: list[FloatArray] = []
    count = 0
    try:
        for frame in container.decode(stream):
            for piece in resampler.resample(frame):
                chunks.append(_mono(piece))
                count += chunks[-1].size
            if count > most:
                raise AnalysisError(
                    "audio_too_long", f"The recording is longer than {max_seconds:g} seconds"
                )
        chunks.extend(_mono(piece) for piece in resampler.resample(None))
    except (FFmpegError, ValueError) as error:  # PyAV: ValueError where the format changes midway
        if not count:
            raise AnalysisError("audio_unreadable", f"The file is not {_READABLE}") from error
        warnings.add("audio_damaged", f"Only the first {count / rate:.2f} s could be decoded")
    samples = np.concatenate(chunks) if chunks else np.zeros(0)
    samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return Recording(samples, rate, source_rate, channels, stream.codec_context.name)


def _mono(frame: av.AudioFrame) -> FloatArray:
    """Return the mean of all channels (FFmpeg's own mix depends on the sample format)."""
    mixed: FloatArray = frame.to_ndarray().mean(axis=0, dtype=np.float64)
    return mixed
