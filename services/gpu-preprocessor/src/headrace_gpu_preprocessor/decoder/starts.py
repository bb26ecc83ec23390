"""Finds where a coded stream starts afresh: packets that nothing later reaches back beyond.

FFmpeg's key-frame flag is not enough: it is set as well where a picture only begins to be renewed
stripe by stripe (intra refresh), and then later pictures do refer to earlier ones.
"""

from collections.abc import Callable, Iterator
from typing import Final

#: Slices of an IDR picture (H.264, 7.4.1.2.4).
_H264_IDR: Final = frozenset({5})
#: Slices of random access pictures (H.265, 7.4.2.2): what leads them is not decoded.
_HEVC_RANDOM_ACCESS: Final = frozenset(range(16, 22))
_H264_SLICES: Final = frozenset(range(1, 6))
_HEVC_SLICES: Final = frozenset(range(32))
#: Units before a picture's first slice: parameter sets, messages. More are not looked at.
_MOST_UNITS: Final = 40


def fresh_start_of(codec: str, configuration: bytes | None) -> Callable[[bytes], bool]:
    """Return a test of a packet's bytes; for codecs that are not known it never says yes.

    Args:
        codec: as FFmpeg names it.
        configuration: the stream's extradata. In MP4 it begins with 1, and units carry lengths.
    """
    lengths = bool(configuration) and configuration is not None and configuration[0] == 1
    units = _by_length if lengths else _by_start_code
    if codec == "h264":
        return lambda data: _first(units(data), 0, 0x1F, _H264_SLICES) in _H264_IDR
    if codec == "hevc":
        return lambda data: _first(units(data), 1, 0x3F, _HEVC_SLICES) in _HEVC_RANDOM_ACCESS
    return lambda _data: False


def _first(headers: Iterator[int], shift: int, mask: int, slices: frozenset[int]) -> int | None:
    """Return the type of the first slice."""
    for _, header in zip(range(_MOST_UNITS), headers, strict=False):
        kind = header >> shift & mask
        if kind in slices:
            return kind
    return None


def _by_start_code(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        yield data[at + 3]
        at = data.find(b"\0\0\1", at + 3)


def _by_length(data: bytes) -> Iterator[int]:
    """Units with lengths of four bytes, which is what encoders write."""
    at = 0
    while at + 4 < len(data):
        yield data[at + 4]
        at += 4 + int.from_bytes(data[at : at + 4], "big")
