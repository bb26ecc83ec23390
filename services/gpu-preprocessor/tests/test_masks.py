"""Masks survive as text, and a text from elsewhere does no harm."""

import base64
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_gpu_preprocessor.background.masks import (
    BadMaskError,
    MaskLimits,
    decode_levels,
    decode_mask,
    encode_levels,
    encode_mask,
)

_SHAPE = (45, 83)


def _mask() -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.random.default_rng(1).random(_SHAPE) < 0.3


def _png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 1) -> str:
    header = struct.pack("!IIBBBBB", width, height, depth, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        data += struct.pack("!I", len(body)) + kind + body
        data += struct.pack("!I", zlib.crc32(kind + body))
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), _SHAPE, (720, 1280)])
def test_they_come_back_as_they_were(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[1])
    for mask in (random.random(shape) < 0.5, np.ones(shape, bool), np.zeros(shape, bool)):
        assert (decode_mask(encode_mask(mask), shape) == mask).all()
    levels = random.integers(0, 3, shape, np.uint8)
    assert (decode_levels(encode_levels(levels), shape, most=2) == levels).all()


def test_a_real_mask_is_short() -> None:
    mask = np.zeros((720, 1280), bool)
    mask[200:600, 300:900] = True
    assert len(encode_mask(mask)) < 8000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no base64!",
        encode_mask(_mask())[:-8],
        encode_mask(_mask())[:60],
        encode_mask(_mask().T),
        encode_levels(_mask().astype(np.uint8)),
        base64.b64encode(b"\xff\xd8\xff\xe0 a JPEG").decode(),
        _png(83, 45),
        _png(83, 45, (b"IDAT", b"no zlib")),
        _png(2**31 - 1, 2**31 - 1, (b"IDAT", zlib.compress(b"\0" * 1000))),
        _png(83, 45, (b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 1000)), (b"IDAT", b"")),
        _png(83, 45, (b"IHDR", bytes(13))),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadMaskError):
        decode_mask(text, _SHAPE)


def test_limits_come_first() -> None:
    text = encode_mask(_mask())
    for limits in (MaskLimits(pixels=45 * 83 - 1), MaskLimits(text_bytes=len(text) - 1)):
        with pytest.raises(BadMaskError, match="larger"):
            decode_mask(text, _SHAPE, limits)


def test_a_map_has_no_other_numbers() -> None:
    with pytest.raises(BadMaskError, match="above 2"):
        decode_levels(encode_levels(np.full(_SHAPE, 3, np.uint8)), _SHAPE, most=2)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_does_no_other_harm(place: int, value: int) -> None:
    data = bytearray(base64.b64decode(encode_mask(_mask())))
    data[place % len(data)] = value
    try:
        found = decode_mask(base64.b64encode(data).decode(), _SHAPE)
    except BadMaskError:
        return
    assert found.shape == _SHAPE
