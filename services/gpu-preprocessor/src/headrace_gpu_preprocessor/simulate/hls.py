"""Makes HLS from frames with FFmpeg's own muxer: MPEG-TS or fMP4, plain or AES-128."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class HlsFormat:
    """How to pack.

    Attributes:
        container: of the segments.
        segment_seconds: their length; each starts with a key frame.
        key: AES-128 key, 16 bytes; None for plain. FFmpeg encrypts MPEG-TS only.
        single_file: one file, segments as byte ranges of it.
        quality: x264's constant rate factor; lower is better.
        camera_bits: encode as cameras do: this many bits a second, no B pictures; None for not.
    """

    container: Literal["mpegts", "fmp4"] = "mpegts"
    segment_seconds: float = 2.0
    key: bytes | None = None
    single_file: bool = False
    quality: int = 26
    camera_bits: int | None = None


def write_hls(
    frames: Iterable[Image], rate: int, directory: Path, form: HlsFormat | None = None
) -> Path:
    """Encode frames into a directory and return the path of the playlist.

    Args:
        frames: BGR, all of one even size.
        rate: frames per second.
        directory: which exists, and is empty.
        form: how to pack.

    Raises:
        ValueError: there are no frames.
    """
    form = form or HlsFormat()
    playlist = directory / "index.m3u8"
    images = iter(frames)
    first = next(images, None)
    if first is None:
        raise ValueError("a stream needs at least one frame")
    with av.open(str(playlist), "w", format="hls", options=_options(form, directory)) as container:
        stream = container.add_stream(
            "libx264",
            rate=rate,
            options={
                "preset": "veryfast",
                "g": str(max(1, round(rate * form.segment_seconds))),
                "sc_threshold": "0",
                **_rate_control(form),
            },
        )
        if not isinstance(stream, VideoStream):
            raise TypeError("libx264 makes video")
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in _chain(first, images):
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return playlist


def read_video(path: Path, *, seconds: float | None = None) -> tuple[int, Iterator[Image]]:
    """Open any video file that is trusted: its frames per second, and its frames as BGR."""
    container = av.open(str(path))
    stream = container.streams.video[0]
    rate = max(1, round(float(stream.average_rate or 25)))

    def frames() -> Iterator[Image]:
        with container:
            for frame in container.decode(stream):
                if seconds is not None and frame.time >= seconds:
                    return
                width, height = frame.width // 2 * 2, frame.height // 2 * 2
                yield frame.to_ndarray(format="bgr24")[:height, :width].astype(np.uint8, copy=False)

    return rate, frames()


def _chain(first: Image, rest: Iterator[Image]) -> Iterator[Image]:
    yield first
    yield from rest


def _rate_control(form: HlsFormat) -> dict[str, str]:
    if form.camera_bits is None:
        return {"crf": str(form.quality)}
    bits = str(form.camera_bits)
    return {"b": bits, "maxrate": bits, "bufsize": bits, "bf": "0"}


def _options(form: HlsFormat, directory: Path) -> dict[str, str]:
    extension = "ts" if form.container == "mpegts" else "m4s"
    options = {
        "hls_time": str(form.segment_seconds),
        "hls_playlist_type": "vod",
        "hls_segment_type": form.container,
        "hls_segment_filename": str(directory / f"segment%05d.{extension}"),
    }
    if form.single_file:
        options["hls_flags"] = "single_file"
        options["hls_segment_filename"] = str(directory / f"all.{extension}")
    if form.key is not None:
        (directory / "stream.key").write_bytes(form.key)
        information = directory / "key_information"
        information.write_text(f"stream.key\n{directory / 'stream.key'}\n", encoding="utf-8")
        options["hls_key_info_file"] = str(information)
    return options
