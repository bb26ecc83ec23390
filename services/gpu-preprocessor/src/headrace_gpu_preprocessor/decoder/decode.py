"""Decodes a clip with PyAV; every byte comes through the opener."""

import ctypes
import errno
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import av
import av.error
import av.subtitles.stream  # PyAV imports it late, when files are out of reach already
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from headrace_gpu_preprocessor.decoder.picker import Picker
from headrace_gpu_preprocessor.decoder.starts import fresh_start_of
from headrace_gpu_preprocessor.decoder.timeline import Timeline

#: FFmpeg must know the host's protocol to hand its URLs to the opener; nothing connects there.
BASE_URL: Final = "http://media.invalid/"
PLAYLIST: Final = "index.m3u8"
VIDEO_FILE: Final = "video"
#: The containers of plain files that FFmpeg may be told to read, as it names them.
_FILE_CONTAINERS: Final = frozenset({"mov", "matroska", "avi", "mpegts"})
#: Two threads decode one clip; more clips, not more threads, fill the machine.
_THREADS: Final = 2
#: Samples that may wait to be handed over.
_WAITING: Final = 2
#: A stream that cannot be decoded for so many packets is given up.
_MAX_BAD_PACKETS: Final = 500
_HLS_OPTIONS: Final = {
    "protocol_whitelist": "http",  # refuses file, concat, data and the rest by itself
    "http_persistent": "0",  # a connection kept alive would not come through the opener
    "allowed_segment_extensions": "ts,mp4",
    # The parent knows whether a playlist is frozen; FFmpeg would give up after three reloads.
    "max_reload": "10000",
    "m3u8_hold_counters": "10000",
}
_PROBE_OPTIONS: Final = {
    "analyzeduration": "5000000",  # microseconds of media
    "probesize": "4000000",
}


class Readable(Protocol):
    """What FFmpeg reads from."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""


class DecodeError(Exception):
    """The stream cannot be a clip; `code` says why."""

    def __init__(self, code: str, detail: str) -> None:
        """Make the error."""
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Order:
    """What to decode, and its limits.

    Attributes:
        seconds: length of the clip.
        samples: frames to hand over, evenly spread.
        max_pixels: of a frame of the stream.
        output_pixels: larger frames are handed over smaller.
        max_frames: of the stream, in all.
        container: hls, or what the file is.
    """

    seconds: float
    samples: int
    max_pixels: int
    output_pixels: int
    max_frames: int
    container: str = "hls"


if TYPE_CHECKING:
    VideoPacket = Packet[VideoStream]
else:
    VideoPacket = Packet  # takes no parameter at run time
Opener = Callable[[str, int, dict[str, str]], Readable]


class Pixels(NamedTuple):
    """Rows of BGR, each of so many bytes: FFmpeg pads them for its vector code."""

    data: memoryview
    row_bytes: int

    def copy_to(self, target: memoryview, row: int) -> None:
        """Copy the rows without what pads them, `row` bytes each, until the target is full."""
        if self.row_bytes == row:
            # Unlike the copy of a slice it lets other threads run meanwhile: most of the time
            # goes to the kernel, which makes the pages.
            ctypes.memmove(_address(target), _address(self.data[: len(target)]), len(target))
            return
        for number in range(len(target) // row):
            start = number * self.row_bytes
            target[number * row : (number + 1) * row] = self.data[start : start + row]


def _address(data: memoryview) -> ctypes.Array[ctypes.c_char]:
    """Return what ctypes takes for the address of memory that may be written to."""
    return (ctypes.c_char * len(data)).from_buffer(data)


#: Called in a thread of its own.
Sink = Callable[[float, int, int, Pixels], None]


def decode_clip(order: Order, opener: Opener, sink: Sink) -> dict[str, Any]:
    """Decode one clip, hand its samples to `sink`, and return what was seen.

    Raises:
        DecodeError: it cannot be decoded, or passes a limit.
    """
    try:
        with _open(order.container, opener) as container, ThreadPoolExecutor(1) as hands:
            return _Decoder(order, sink, hands).run(container)
    except MemoryError as error:
        raise DecodeError("video_memory_limit", "decoding needs more memory than it may") from error
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise DecodeError("video_memory_limit", "decoding needs too much memory") from error
        raise DecodeError("not_video", f"cannot be decoded: {error.strerror}") from error


def _open(container: str, opener: Opener) -> InputContainer:
    if container == "hls":
        options = _HLS_OPTIONS | _PROBE_OPTIONS
        return av.open(BASE_URL + PLAYLIST, format="hls", io_open=opener, options=options)
    if container not in _FILE_CONTAINERS:
        raise DecodeError("not_video", f"files of {container[:20]} are not read")
    file = opener(BASE_URL + VIDEO_FILE, 0, {})
    # What the file itself refers to is opened by nobody.
    return av.open(file, mode="r", format=container, io_open=_refuse, options=dict(_PROBE_OPTIONS))


def _refuse(_url: str, _flags: int, _options: dict[str, str]) -> Readable:
    raise DecodeError("not_video", "the file refers to another one")


class _Decoder:
    def __init__(self, order: Order, sink: Sink, hands: ThreadPoolExecutor) -> None:
        self._order = order
        self._sink = sink
        self._hands = hands
        self._handed: deque[Future[None]] = deque()
        self._reformatter = VideoReformatter()
        self._decoded = 0
        self._sampled = 0
        self._bad_packets = 0
        self._corrupt = 0
        self._size: tuple[int, int] | None = None

    def run(self, container: InputContainer) -> dict[str, Any]:
        """Decode until the clip is full or the stream ends."""
        if not container.streams.video:
            raise DecodeError("no_video", "the stream has no video")
        stream = container.streams.video[0]
        self._prepare(container, stream)
        rate = stream.average_rate or stream.guessed_rate
        timeline = Timeline(self._order.seconds, self._order.samples, float(rate or 0))
        context = stream.codec_context
        is_start = fresh_start_of(context.name, context.extradata)
        picker: Picker[VideoPacket] = Picker(
            timeline, float(stream.time_base or 1), lambda packet: is_start(bytes(packet))
        )
        for packet, optional in picker.needed(self._packets(container, stream)):
            context.skip_frame = "NONREF" if optional else "DEFAULT"
            for frame in self._decode(stream, packet):
                self._take(frame, picker)
        for frame in self._decode(stream, None):  # what is still in the decoder
            self._take(frame, picker)
        self._await_hands(0)
        if not self._decoded:
            raise DecodeError("not_video", "no frame could be decoded")
        return self._report(stream, picker)

    def _prepare(self, container: InputContainer, stream: VideoStream) -> None:
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        context = stream.codec_context
        self._check_size(context.width, context.height)
        context.thread_type = "AUTO"
        context.thread_count = _THREADS
        # Refuses a larger frame in the middle of the stream before it is allocated.
        context.options = {"max_pixels": str(self._order.max_pixels)}

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._order.max_pixels:
            raise DecodeError("frame_too_large", f"frames of {width} x {height} pixels")

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoPacket]:
        count = 0
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # the end: the decoder is emptied by its own call
            count += 1
            if count > self._order.max_frames:
                raise DecodeError("too_many_frames", f"more than {self._order.max_frames} frames")
            yield packet

    def _decode(self, stream: VideoStream, packet: VideoPacket | None) -> list[VideoFrame]:
        try:
            return stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            self._bad_packets += 1
            if self._bad_packets > _MAX_BAD_PACKETS:
                raise
            return []

    def _take(self, frame: VideoFrame, picker: Picker[VideoPacket]) -> None:
        self._decoded += 1
        self._check_size(frame.width, frame.height)
        if frame.is_corrupt:
            self._corrupt += 1
            return
        time = picker.take(frame.pts)
        if time is not None:
            self._sampled += 1
            self._await_hands(_WAITING)
            # FFmpeg decodes on meanwhile.
            self._handed.append(self._hands.submit(self._hand_over, time, frame))

    def _await_hands(self, most: int) -> None:
        """Wait until at most so many samples wait to be handed over; raise what went wrong."""
        while len(self._handed) > most:
            self._handed.popleft().result()

    def _hand_over(self, time: float, frame: VideoFrame) -> None:
        if self._size is None:
            self._size = output_size(frame.width, frame.height, self._order.output_pixels)
        width, height = self._size
        plane = self._reformatter.reformat(frame, width, height, "bgr24").planes[0]
        self._sink(time, width, height, Pixels(memoryview(plane).cast("B"), plane.line_size))

    def _report(self, stream: VideoStream, picker: Picker[VideoPacket]) -> dict[str, Any]:
        context, timeline = stream.codec_context, picker.timeline
        return {
            "codec": context.name,
            "width": context.width,
            "height": context.height,
            "frames_per_second": timeline.rate,
            "frames": picker.packets,
            "decoded": self._decoded,
            "sampled": self._sampled,
            "corrupt_frames": self._corrupt,
            "bad_packets": self._bad_packets,
            "span_seconds": timeline.span,
            "covered_seconds": timeline.covered,
            "gaps": timeline.gaps,
            "discontinuities": timeline.discontinuities,
        }


def output_size(width: int, height: int, most_pixels: int) -> tuple[int, int]:
    """Return the size to hand over: the same shape, even, at most so many pixels."""
    if width * height <= most_pixels:
        return width, height
    scale = (most_pixels / (width * height)) ** 0.5
    narrow = max(2, int(width * scale) // 2 * 2)
    low = max(2, min(int(height * scale) // 2 * 2, most_pixels // narrow))
    return min(narrow, most_pixels // low), low
