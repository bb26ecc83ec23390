"""A picture file from outside to pixels. It is hostile input: what it says is checked first."""

import io
import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headrace_gpu_preprocessor.on_demand.errors import (
    BrokenImageError,
    ImageTooLargeError,
    UnsupportedImageError,
)

#: The only decoders of Pillow that are ever tried.
FORMATS: Final = ("JPEG", "PNG", "WEBP")
_MAGIC_BYTES: Final = 12
#: A road is not seen on less.
_MIN_SIDE: Final = 32
#: What Pillow's decoders raise on files that are broken or built to hurt.
_BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
#: Pillow has a limit of its own, far above ours, that it looks at even before we can.
_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP file; turned upright as its EXIF data say. Blocking.

    Args:
        data: the file.
        max_pixels: more are refused before anything is decoded.

    Returns:
        BGR, height x width x 3.

    Raises:
        UnsupportedImageError: another kind of file.
        ImageTooLargeError: more pixels.
        BrokenImageError: it cannot be decoded, or has too few pixels.
    """
    if not _known(data[:_MAGIC_BYTES]):
        raise UnsupportedImageError("send a picture as JPEG, PNG or WebP")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(*picture.size, max_pixels)
            if picture.mode[0] in "IF":
                raise BrokenImageError("the picture must have 8 bits a channel")
            upright = ImageOps.exif_transpose(picture)
            rgb = np.asarray(upright.convert("RGB"), dtype=np.uint8)
    except _BOMBS as error:
        raise ImageTooLargeError(f"{max_pixels} pixels are taken at most") from error
    except _BROKEN as error:
        raise BrokenImageError(f"the picture cannot be decoded: {str(error)[:200]}") from error
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _known(head: bytes) -> bool:
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the picture has {width} x {height} pixels, {max_pixels} are taken at most"
        )
    if min(width, height) < _MIN_SIDE:
        raise BrokenImageError(f"the picture has {width} x {height} pixels, too few for a road")
