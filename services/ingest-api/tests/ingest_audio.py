"""Recordings, made by a real encoder."""

import io
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
from mutagen.ogg import OggPage

RATE = 48_000


@dataclass(frozen=True)
class Kind:
    """A kind of recording: how FFmpeg makes it, and what the service should call it."""

    format: str
    encoder: str
    container: str
    codec: str
    rate: int = RATE
    options: tuple[tuple[str, str], ...] = ()
    channels: tuple[int, ...] = (1, 2)
    #: Whether the file tells how long it is.
    timed: bool = True


KINDS = {
    "wav": Kind("wav", "pcm_s16le", "wav", "pcm_16"),
    "wav-24-bit": Kind("wav", "pcm_s24le", "wav", "pcm_24"),
    "flac": Kind("flac", "flac", "flac", "flac"),
    "ogg-vorbis": Kind("ogg", "vorbis", "ogg", "vorbis", channels=(2,)),
    "ogg-opus": Kind("ogg", "libopus", "ogg", "opus"),
    "ogg-flac": Kind("ogg", "flac", "ogg", "flac"),
    "mp3": Kind("mp3", "libmp3lame", "mp3", "mp3"),
    "mp3-without-tag": Kind(
        "mp3", "libmp3lame", "mp3", "mp3", options=(("id3v2_version", "0"), ("write_xing", "0"))
    ),
    "m4a": Kind("ipod", "aac", "m4a", "mp4a.40.2"),
    "m4a-in-fragments": Kind(
        "mp4", "aac", "m4a", "mp4a.40.2",
        options=(("movflags", "frag_keyframe+empty_moov"),), timed=False,
    ),
    "aac": Kind("adts", "aac", "aac", "aac"),
    "webm-opus": Kind("webm", "libopus", "webm", "opus"),
    "webm-vorbis": Kind("webm", "vorbis", "webm", "vorbis", channels=(2,)),
    "webm-live": Kind("webm", "libopus", "webm", "opus", options=(("live", "1"),), timed=False),
}  # fmt: skip


@cache
def recording(name: str, seconds: float = 1.0, channels: int | None = None) -> bytes:
    """Return a rising tone of `seconds` as the kind called `name`."""
    kind = KINDS[name]
    channels = channels or kind.channels[0]
    buffer = io.BytesIO()
    layout = "mono" if channels == 1 else "stereo"
    with av.open(buffer, "w", format=kind.format, options=dict(kind.options)) as container:
        # FFmpeg calls its own Vorbis encoder experimental.
        stream = container.add_stream(kind.encoder, rate=kind.rate, options={"strict": "-2"})
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.layout = layout
        times = np.arange(int(seconds * kind.rate)) / kind.rate
        tone = (8_000 * np.sin(2 * np.pi * (200 + 100 * times) * times)).astype(np.int16)
        samples = np.repeat(tone, channels)[np.newaxis, :]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = kind.rate, 0
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=kind.rate,
            frame_size=stream.codec_context.frame_size or 1_024,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            packets = stream.encode(piece)
            # Ogg's muxer does not take the empty packet in which FLAC's encoder hands in its hash.
            container.mux([one for one in packets if one.size or kind.format != "ogg"])
    return buffer.getvalue()


def speex(seconds: float = 1.0, rate: int = 16_000) -> bytes:
    """Return the frame of an Ogg Speex file: no encoder for it comes in a package."""
    header = struct.pack(
        "<8s20sIIIIIiIIIIIII",
        b"Speex   ", b"speex-1.2", 1, 80, rate, 1, 4, 1, -1 & 0xFFFFFFFF, 320, 0, 1, 0, 0, 0,
    )  # fmt: skip
    comment = struct.pack("<I4sI", 4, b"test", 0)
    pages = []
    for number, (packet, position) in enumerate(
        [(header, 0), (comment, 0), (b"\0" * 70, int(seconds * rate))]
    ):
        page: Any = OggPage()  # type: ignore[no-untyped-call]  # mutagen has no types
        page.packets, page.position, page.sequence, page.serial = [packet], position, number, 7
        page.first, page.last = number == 0, number == 2
        pages.append(page.write())
    return b"".join(pages)


@cache
def video_without_sound(format_name: str) -> bytes:
    """Return a short film in which nothing is heard."""
    buffer = io.BytesIO()
    encoder = "libvpx" if format_name == "webm" else "mpeg4"
    with av.open(buffer, "w", format=format_name) as container:
        stream = container.add_stream(encoder, rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            picture = np.zeros((64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def wav_head(data_bytes: int, *, rate: int = RATE, channels: int = 1) -> bytes:
    """Return the 44 bytes before the samples of a 16-bit WAV."""
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", data_bytes + 36, b"WAVE", b"fmt ", 16, 1, channels, rate,
        2 * channels * rate, 2 * channels, 16, b"data", data_bytes,
    )  # fmt: skip


@cache
def large_wav(size: int) -> bytes:
    """Return a WAV of `size` bytes with noise in it."""
    noise = np.random.default_rng(7).integers(0, 256, size - 44, dtype=np.uint8)
    return wav_head(size - 44) + noise.tobytes()
