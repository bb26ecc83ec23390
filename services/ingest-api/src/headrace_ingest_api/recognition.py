"""What kind of recording a file is, by its first bytes; names and Content-Types may lie."""

import struct
from enum import StrEnum
from typing import Final

#: Bytes that recognition wants to see, or the whole of a shorter file.
HEAD_BYTES: Final = 4_096

_EBML: Final = b"\x1a\x45\xdf\xa3"
_OGG_HEADER_BYTES: Final = 27
_OGG_CODECS: Final = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
#: Brands of ISO media files that hold pictures: HEIF, AVIF and raw photographs.
_PICTURE_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"crx "}
)
_ID3_HEADER_BYTES: Final = 10
_ID3_FOOTER_FLAG: Final = 0x10


class Container(StrEnum):
    """The kinds of file that are taken."""

    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
    MP3 = "mp3"
    M4A = "m4a"
    AAC = "aac"
    WEBM = "webm"

    @property
    def extension(self) -> str:
        """Ending of file names, without the dot."""
        return self.value

    @property
    def media_type(self) -> str:
        """The Content-Type to store and tell."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES: Final[dict[Container, str]] = {
    Container.WAV: "audio/wav",
    Container.FLAC: "audio/flac",
    Container.OGG: "audio/ogg",
    Container.MP3: "audio/mpeg",
    Container.M4A: "audio/mp4",
    Container.AAC: "audio/aac",
    Container.WEBM: "audio/webm",
}


def recognise(head: bytes) -> Container | None:
    """Return what `head`, the first bytes of a file, begins; None if it is nothing we take."""
    marks = {
        Container.WAV: head[:4] == b"RIFF" and head[8:12] == b"WAVE",
        Container.FLAC: head[:4] == b"fLaC",
        Container.OGG: head[:4] == b"OggS" and _ogg_payload(head).startswith(_OGG_CODECS),
        Container.M4A: head[4:8] == b"ftyp" and head[8:12] not in _PICTURE_BRANDS,
        Container.WEBM: head[:4] == _EBML and b"webm" in head[:64],
    }
    for container, found in marks.items():
        if found:
            return container
    return _after_id3(head) if head[:3] == b"ID3" else _mpeg_frame(head)


def _ogg_payload(head: bytes) -> bytes:
    """Return the first packet: after the page's header and its table of segments."""
    segments = head[_OGG_HEADER_BYTES - 1] if len(head) >= _OGG_HEADER_BYTES else 0
    return head[_OGG_HEADER_BYTES + segments :]


def _after_id3(head: bytes) -> Container | None:
    """Look behind an ID3v2 tag: https://id3.org/id3v2.4.0-structure, section 3.1.

    A tag that is longer than what we see stands before MP3, with hardly an exception.
    """
    if len(head) < _ID3_HEADER_BYTES:
        return None
    flags, *size = struct.unpack("5B", head[5:_ID3_HEADER_BYTES])
    length = sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
    end = _ID3_HEADER_BYTES * (2 if flags & _ID3_FOOTER_FLAG else 1) + length
    rest = head[end:].lstrip(b"\0")  # some writers pad behind the tag
    if not rest:
        return Container.MP3
    return Container.FLAC if rest.startswith(b"fLaC") else _mpeg_frame(rest)


def _mpeg_frame(head: bytes) -> Container | None:
    """Read the sync word that MP3 and ADTS share; the layer tells them apart."""
    if head[:4] == b"ADIF":
        return Container.AAC
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = (head[1] >> 3) & 0b11, (head[1] >> 1) & 0b11
    if layer == 0:  # ADTS: twelve sync bits, and a sampling frequency that exists
        adts = head[1] & 0xF0 == 0xF0 and (head[2] >> 2) & 0x0F < 13
        return Container.AAC if adts else None
    bitrate, rate = head[2] >> 4, (head[2] >> 2) & 0b11
    is_layer_3 = version != 0b01 and layer == 0b01 and bitrate != 0b1111 and rate != 0b11
    return Container.MP3 if is_layer_3 else None
