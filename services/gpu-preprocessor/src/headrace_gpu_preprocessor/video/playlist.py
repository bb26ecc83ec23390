"""HLS playlists (RFC 8216) as data: read from hostile text, written anew for the decoder.

The decoder never sees a URL of the stream. It gets a playlist made from what was understood
here, with names instead of URLs, so that only what a playlist listed can be fetched; relative
URLs after redirects, byte ranges and keys are settled on this side, where FFmpeg with an opener
of ours would get them wrong.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from headrace_gpu_preprocessor.video.errors import (
    BadPlaylistError,
    NotHlsError,
    PlaylistTooLargeError,
    UnsupportedEncryptionError,
)

#: More than two days of 4-second segments.
MAX_ENTRIES: Final = 50_000
#: RFC 8216 lets segments be so long in practice; a longer claim would freeze the reader.
MAX_TARGET_SECONDS: Final = 60.0
_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",\s]*)')
_VIDEO_CODECS: Final = ("avc", "hvc", "hev", "dvh", "vp09", "av01", "mp4v")


@dataclass(frozen=True)
class ByteRange:
    """Part of a resource."""

    start: int
    length: int


@dataclass(frozen=True)
class Key:
    """An AES-128 key: where it is, and the initialisation vector for what it opens."""

    url: str
    iv: bytes


@dataclass(frozen=True)
class Resource:
    """Something to fetch: a segment, or an initialisation section."""

    url: str
    byte_range: ByteRange | None = None
    key: Key | None = None


@dataclass(frozen=True)
class Segment:
    """One segment, in the order of playing."""

    resource: Resource
    seconds: float
    init: Resource | None
    discontinuity: bool


@dataclass(frozen=True)
class Variant:
    """One rendition of a master playlist; zero means not said."""

    url: str
    width: int
    height: int
    bandwidth: int
    codecs: str

    @property
    def has_video(self) -> bool:
        """Whether it may have video: it names a video codec, or none at all."""
        return not self.codecs or any(name in self.codecs for name in _VIDEO_CODECS)


@dataclass(frozen=True)
class MediaPlaylist:
    """The segments that are there now."""

    segments: tuple[Segment, ...]
    first_sequence: int
    target_seconds: float
    ended: bool

    @property
    def last_sequence(self) -> int:
        """The number after the last segment's: it grows while the stream lives."""
        return self.first_sequence + len(self.segments)

    def render(self, name: Callable[[Resource, str], str], *, ended: bool) -> str:
        """Write it anew.

        Args:
            name: what to call a resource, given it and its extension.
            ended: whether to say that nothing more will come.
        """
        lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
        lines.append(f"#EXT-X-TARGETDURATION:{max(1, round(self.target_seconds))}")
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{self.first_sequence}")
        init: Resource | None = None
        for segment in self.segments:
            if segment.discontinuity:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.init is not None and segment.init != init:
                init = segment.init
                lines.append(f'#EXT-X-MAP:URI="{name(init, "mp4")}"')
            lines.append(f"#EXTINF:{segment.seconds:.6f},")
            lines.append(name(segment.resource, "mp4" if segment.init else "ts"))
        if ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"


def parse(text: str, base_url: str) -> tuple[Variant, ...] | MediaPlaylist:
    """Read a playlist: the variants of a master playlist, or the segments of a media playlist.

    Args:
        text: what the server sent.
        base_url: where it was found, after redirects; relative URLs start there.

    Raises:
        VideoError: not a playlist, broken, too long, or encrypted in an unknown way.
    """
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    if not lines or not lines[0].startswith("#EXTM3U"):
        raise NotHlsError("there is no HLS playlist at this URL")
    if len(lines) > MAX_ENTRIES * 4:
        raise PlaylistTooLargeError(f"the playlist has {len(lines)} lines")
    if any(line.startswith("#EXT-X-STREAM-INF") for line in lines):
        return tuple(_variants(lines, base_url))
    return _MediaParser(base_url).parse(lines)


def choose_variant(variants: Iterable[Variant], most_pixels: int) -> Variant:
    """Return the largest rendition within `most_pixels`; else the smallest there is.

    Raises:
        BadPlaylistError: none has video.
    """
    usable = [variant for variant in variants if variant.has_video]
    if not usable:
        raise BadPlaylistError("the master playlist lists no video")
    within = [v for v in usable if 0 < v.width * v.height <= most_pixels]
    if within:
        return max(within, key=lambda v: (v.width * v.height, v.bandwidth))
    return min(usable, key=lambda v: (v.width * v.height or most_pixels, v.bandwidth))


def _variants(lines: list[str], base_url: str) -> Iterable[Variant]:
    attributes: dict[str, str] | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            attributes = _attributes(line)
        elif line and not line.startswith("#") and attributes is not None:
            size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", attributes.get("RESOLUTION", ""))
            width, height = (int(size[1]), int(size[2])) if size else (0, 0)
            bandwidth = attributes.get("BANDWIDTH", "")
            yield Variant(
                url=_absolute(base_url, line),
                width=width,
                height=height,
                bandwidth=int(bandwidth) if bandwidth.isdecimal() else 0,
                codecs=attributes.get("CODECS", ""),
            )
            attributes = None


class _MediaParser:
    """Walks the lines of a media playlist and keeps what holds for the segments that follow."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._segments: list[Segment] = []
        self._sequence = 0
        self._target = 0.0
        self._ended = False
        self._seconds = 0.0
        self._range: str | None = None
        self._range_ends: dict[str, int] = {}
        self._key: dict[str, str] | None = None
        self._init: Resource | None = None
        self._discontinuity = False

    def parse(self, lines: list[str]) -> MediaPlaylist:
        for line in lines:
            if line.startswith("#EXT"):
                self._tag(*line.partition(":")[::2])
            elif line and not line.startswith("#"):
                self._segment(line)
        longest = max((segment.seconds for segment in self._segments), default=1.0)
        target = min(self._target or longest, MAX_TARGET_SECONDS)
        return MediaPlaylist(tuple(self._segments), self._sequence, target, self._ended)

    def _tag(self, tag: str, value: str) -> None:
        match tag:
            case "#EXTINF":
                self._seconds = _number(value.partition(",")[0])
            case "#EXT-X-TARGETDURATION":
                self._target = _number(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                self._sequence = int(_number(value))
            case "#EXT-X-BYTERANGE":
                self._range = value
            case "#EXT-X-DISCONTINUITY":
                self._discontinuity = True
            case "#EXT-X-ENDLIST":
                self._ended = True
            case "#EXT-X-KEY":
                self._key = _key_attributes(value)
            case "#EXT-X-MAP":
                self._init = self._map(_attributes(value))
            case _:
                pass  # titles, dates, parts of low latency: the segments say it all

    def _map(self, attributes: dict[str, str]) -> Resource:
        url = _absolute(self._base_url, attributes.get("URI", ""))
        text = attributes.get("BYTERANGE")
        return Resource(url, self._byte_range(url, text) if text else None, self._key_at(0))

    def _segment(self, line: str) -> None:
        if len(self._segments) >= MAX_ENTRIES:
            raise PlaylistTooLargeError(f"the playlist has more than {MAX_ENTRIES} segments")
        url = _absolute(self._base_url, line)
        byte_range = self._byte_range(url, self._range) if self._range else None
        key = self._key_at(self._sequence + len(self._segments))
        resource = Resource(url, byte_range, key)
        self._segments.append(Segment(resource, self._seconds, self._init, self._discontinuity))
        self._range, self._discontinuity = None, False

    def _byte_range(self, url: str, text: str) -> ByteRange:
        """Read `length[@start]`; without a start it follows the range before it."""
        length, at, start = text.partition("@")
        first = int(_number(start)) if at else self._range_ends.get(url, 0)
        found = ByteRange(first, int(_number(length)))
        self._range_ends[url] = first + found.length
        return found

    def _key_at(self, sequence: int) -> Key | None:
        """Return the key with its IV: the one given, or the segment's number (RFC 8216, 5.2)."""
        if self._key is None:
            return None
        given = self._key.get("IV", "")
        try:
            iv = int(given, 16) if given else sequence
            return Key(_absolute(self._base_url, self._key.get("URI", "")), iv.to_bytes(16, "big"))
        except (ValueError, OverflowError) as error:
            raise BadPlaylistError("the key's IV cannot be read") from error


def _key_attributes(value: str) -> dict[str, str] | None:
    attributes = _attributes(value)
    method = attributes.get("METHOD", "NONE")
    if method == "NONE":
        return None
    if method != "AES-128" or attributes.get("KEYFORMAT", "identity") != "identity":
        raise UnsupportedEncryptionError(f"the stream is encrypted with {method[:40]}")
    return attributes


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line)}


def _absolute(base_url: str, reference: str) -> str:
    if not reference:
        raise BadPlaylistError("the playlist names something without its URI")
    try:
        return urljoin(base_url, reference)
    except ValueError as error:
        raise BadPlaylistError("the playlist has a URI that cannot be read") from error


def _number(text: str) -> float:
    """Read a number that is at least zero; what is not one counts as zero, as players do."""
    found = re.match(r"\s*(\d{1,15}(\.\d{0,9})?)", text)
    return float(found[1]) if found else 0.0
