"""Tells by its first bytes what is at a URL: that picks the only parser that FFmpeg may use."""

from typing import Final, Literal

from headrace_gpu_preprocessor.video.errors import NotVideoError

Kind = Literal["auto", "hls", "file"]
#: Enough for three packets of MPEG-TS, with a time stamp each.
HEAD_BYTES: Final = 600
HLS: Final = "hls"
_PICTURES: Final = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_MP4_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
_TS_SYNC: Final = 0x47
_TS_PACKET_BYTES: Final = (188, 192)


def sniff(head: bytes) -> str:
    """Return FFmpeg's name of the container: hls, mov, matroska, avi or mpegts.

    Raises:
        NotVideoError: a picture, or nothing that is known.
    """
    if head.removeprefix(b"\xef\xbb\xbf").startswith(b"#EXTM3U"):
        return HLS
    if head[4:8] in _MP4_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if _is_transport_stream(head):
        return "mpegts"
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP":
        raise NotVideoError("a picture, not a video, is at this URL")
    raise NotVideoError("neither a playlist nor a video file of a known kind is at this URL")


def _is_transport_stream(head: bytes) -> bool:
    for length in _TS_PACKET_BYTES:
        marks = head[length - 188 :: length][:3]
        if len(marks) == 3 and set(marks) == {_TS_SYNC}:
            return True
    return False
