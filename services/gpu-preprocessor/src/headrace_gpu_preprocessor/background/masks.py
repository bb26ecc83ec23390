"""Masks as text: a PNG in base64, so that `background_meta.json` carries them.

A mask comes back from an object store, where others may have written: everything is limited
before anything is decoded, and only the chunks that make a picture pass.
"""

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Levels = NDArray[np.uint8]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHUNK: Final = struct.Struct("!I4s")
#: Length of a chunk's checksum.
_CHECKSUM_BYTES: Final = 4
_HEADER: Final = struct.Struct("!IIBBBBB")
_GREY: Final = 0
#: No text, no colour profile, no time: each has had a decoder with a hole.
_ALLOWED_CHUNKS: Final = frozenset({b"IHDR", b"IDAT", b"IEND"})


@dataclass(frozen=True)
class MaskLimits:
    """What is decoded at most.

    Attributes:
        text_bytes: length of the text.
        pixels: of the mask.
    """

    text_bytes: int = 2 * 1024 * 1024
    pixels: int = 1920 * 1088


class BadMaskError(ValueError):
    """The text is not a mask of the size that was asked for."""


def encode_mask(mask: Mask) -> str:
    """Return a mask as text: PNG of one bit, in base64."""
    return _encode(mask.astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL)


def decode_mask(text: str, shape: tuple[int, int], limits: MaskLimits | None = None) -> Mask:
    """Return the mask in a text of `encode_mask`.

    Args:
        text: from outside.
        shape: height and width that it must have.
        limits: beyond which it is not looked at.

    Raises:
        BadMaskError: it is anything else.
    """
    return np.asarray(_decode(text, shape, limits or MaskLimits(), depth=1) > 0, dtype=np.bool_)


def encode_levels(levels: Levels) -> str:
    """Return a map of small numbers, such as `Source`, as text: PNG of eight bits, in base64."""
    return _encode(levels, cv2.IMWRITE_PNG_COMPRESSION)


def decode_levels(
    text: str, shape: tuple[int, int], *, most: int, limits: MaskLimits | None = None
) -> Levels:
    """Return the map in a text of `encode_levels`.

    Args:
        text: from outside.
        shape: height and width that it must have.
        most: the largest number that it may have.
        limits: beyond which it is not looked at.

    Raises:
        BadMaskError: it is anything else.
    """
    levels = _decode(text, shape, limits or MaskLimits(), depth=8)
    if levels.size and int(levels.max()) > most:
        raise BadMaskError(f"the map has numbers above {most}")
    return levels


def _encode(picture: Levels, option: int) -> str:
    done, data = cv2.imencode(".png", picture, [option, 1])
    if not done:
        raise ValueError("the mask cannot be encoded")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _decode(text: str, shape: tuple[int, int], limits: MaskLimits, *, depth: int) -> Levels:
    if shape[0] * shape[1] > limits.pixels or len(text) > limits.text_bytes:
        raise BadMaskError("the mask is larger than what is decoded")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadMaskError("the mask is not base64") from error
    _check(data, shape, depth)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    # OpenCV returns nothing for a picture that it cannot read; its types leave that out.
    if not isinstance(picture, np.ndarray) or picture.shape != shape:
        raise BadMaskError("the mask's picture cannot be decoded")
    return np.asarray(picture, dtype=np.uint8)


def _check(data: bytes, shape: tuple[int, int], depth: int) -> None:
    """Walk the chunks: only those of a plain grey picture, of this size and depth."""
    if not data.startswith(_SIGNATURE):
        raise BadMaskError("the mask is not a PNG")
    at = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if at + _CHUNK.size > len(data):
            raise BadMaskError("the mask's picture ends early")
        first = not kind
        length, kind = _CHUNK.unpack_from(data, at)
        if kind not in _ALLOWED_CHUNKS or first is not (kind == b"IHDR"):
            raise BadMaskError("the mask's picture has parts that it should not")
        if first:
            _check_header(data[at + _CHUNK.size : at + _CHUNK.size + length], shape, depth)
        at += _CHUNK.size + length + _CHECKSUM_BYTES


def _check_header(header: bytes, shape: tuple[int, int], depth: int) -> None:
    if len(header) != _HEADER.size:
        raise BadMaskError("the mask's picture has a broken header")
    width, height, found, colour, *_ = _HEADER.unpack(header)
    if (height, width, found, colour) != (*shape, depth, _GREY):
        raise BadMaskError(f"the mask is not of {shape[1]} x {shape[0]} pixels of {depth} bits")
