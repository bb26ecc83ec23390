"""Enough of WebM to find its sound: the EBML tree down to the audio track.

The format is RFC 8794 (EBML) and RFC 9559 (Matroska). A browser's recorder writes sizes and the
duration as unknown, because it does not know them yet; both are taken as they are.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

_SEGMENT: Final = 0x18538067
_INFO: Final = 0x1549A966
_TIMESTAMP_SCALE: Final = 0x2AD7B1
_DURATION: Final = 0x4489
_TRACKS: Final = 0x1654AE6B
_TRACK_ENTRY: Final = 0xAE
_TRACK_TYPE: Final = 0x83
_CODEC_ID: Final = 0x86
_AUDIO: Final = 0xE1
_SAMPLING_FREQUENCY: Final = 0xB5
_CHANNELS: Final = 0x9F
_CLUSTER: Final = 0x1F43B675

_AUDIO_TRACK: Final = 2
_DEFAULT_SCALE_NS: Final = 1_000_000
#: Values that matter are numbers and short names.
_MAX_VALUE_BYTES: Final = 256
#: What comes before the first cluster has some tens of elements.
_MAX_ELEMENTS: Final = 5_000


class BadWebmError(Exception):
    """It is not a tree of EBML elements."""


@dataclass(frozen=True)
class WebmTrack:
    """The first audio track."""

    codec: str
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True)
class WebmFacts:
    """What the headers tell.

    Attributes:
        track: None without an audio track.
        duration_seconds: None where the writer did not know it.
        has_clusters: whether there is any content at all.
    """

    track: WebmTrack | None
    duration_seconds: float | None
    has_clusters: bool


@dataclass(frozen=True)
class _Element:
    id: int
    start: int
    end: int


def read_webm(file: BinaryIO, size: int) -> WebmFacts:
    """Read the headers of `file`, which has `size` bytes.

    Raises:
        BadWebmError: it is not well-formed up to its first cluster.
    """
    reader = _Reader(file)
    track: WebmTrack | None = None
    duration: float | None = None
    for segment in reader.children(0, size):
        if segment.id != _SEGMENT:
            continue
        for child in reader.children(segment.start, segment.end):
            if child.id == _INFO:
                duration = _duration(reader, child)
            elif child.id == _TRACKS:
                track = _first_audio_track(reader, child)
            elif child.id == _CLUSTER:
                return WebmFacts(track, duration, has_clusters=True)
    return WebmFacts(track, duration, has_clusters=False)


def _duration(reader: "_Reader", info: _Element) -> float | None:
    scale, ticks = _DEFAULT_SCALE_NS, 0.0
    for child in reader.children(info.start, info.end):
        if child.id == _TIMESTAMP_SCALE:
            scale = reader.number(child)
        elif child.id == _DURATION:
            ticks = reader.real(child)
    return ticks * scale / 1e9 if ticks > 0 else None


def _first_audio_track(reader: "_Reader", tracks: _Element) -> WebmTrack | None:
    for entry in reader.children(tracks.start, tracks.end):
        if entry.id != _TRACK_ENTRY:
            continue
        kind, codec, rate, channels = 0, "", 8_000.0, 1  # defaults of RFC 9559
        for child in reader.children(entry.start, entry.end):
            if child.id == _TRACK_TYPE:
                kind = reader.number(child)
            elif child.id == _CODEC_ID:
                codec = reader.value(child).rstrip(b"\0").decode("ascii", errors="replace")
            elif child.id == _AUDIO:
                rate, channels = _audio(reader, child, rate, channels)
        if kind == _AUDIO_TRACK:
            return WebmTrack(codec, int(rate), channels)
    return None


def _audio(reader: "_Reader", audio: _Element, rate: float, channels: int) -> tuple[float, int]:
    for child in reader.children(audio.start, audio.end):
        if child.id == _SAMPLING_FREQUENCY:
            rate = reader.real(child)
        elif child.id == _CHANNELS:
            channels = reader.number(child)
    return rate, channels


class _Reader:
    """Reads elements, a bounded number of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MAX_ELEMENTS

    def children(self, start: int, end: int) -> Iterator[_Element]:
        """Yield the elements between two positions."""
        position = start
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise BadWebmError("too many elements")
            self._file.seek(position)
            element_id, _ = self._vint(keep_marker=True)
            length, unknown = self._vint(keep_marker=False)
            begin = self._file.tell()
            # An element of unknown size ends with what it is in.
            stop = end if unknown else begin + length
            yield _Element(element_id, begin, min(stop, end))
            position = stop

    def value(self, element: _Element) -> bytes:
        """Return an element's bytes."""
        length = element.end - element.start
        if length > _MAX_VALUE_BYTES:
            raise BadWebmError("a value is too long")
        self._file.seek(element.start)
        value = self._file.read(length)
        if len(value) < length:
            raise BadWebmError("the file ends inside a value")
        return value

    def number(self, element: _Element) -> int:
        """Return an unsigned integer."""
        return int.from_bytes(self.value(element))

    def real(self, element: _Element) -> float:
        """Return a float of 0, 4 or 8 bytes."""
        value = self.value(element)
        forms = {0: None, 4: ">f", 8: ">d"}
        if len(value) not in forms:
            raise BadWebmError("a number has an odd size")
        form = forms[len(value)]
        return float(struct.unpack(form, value)[0]) if form else 0.0

    def _vint(self, *, keep_marker: bool) -> tuple[int, bool]:
        """Read a number of variable length, and whether it is the one that means unknown."""
        first = self._file.read(1)
        if not first or first[0] == 0:
            raise BadWebmError("not an EBML element")
        length = 9 - first[0].bit_length()
        rest = self._file.read(length - 1)
        if len(rest) < length - 1:
            raise BadWebmError("the file ends inside an element's head")
        number = int.from_bytes(first + rest)
        bits = 7 * length
        if keep_marker:
            return number, False
        number &= (1 << bits) - 1
        return number, number == (1 << bits) - 1
