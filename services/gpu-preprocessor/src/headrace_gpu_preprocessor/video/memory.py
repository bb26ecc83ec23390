"""Memory that the decoder writes frames into and this side reads them from, without a copy.

It has the size that was ordered, and is sealed so that a decoder that a crafted stream has taken
over cannot make it smaller, which would kill the reader. What is never written takes no memory.
"""

import fcntl
import mmap
import os
import tempfile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_gpu_preprocessor.decoder.protocol import ProtocolError

_CHANNELS: Final = 3
#: F_SEAL_SEAL, F_SEAL_SHRINK and F_SEAL_GROW of Linux's fcntl.h.
_SEALS: Final = 0x1 | 0x2 | 0x4


class FrameMemory:
    """Frames one behind the other, in the order in which the decoder announces them."""

    def __init__(self, size: int) -> None:
        """Reserve address space for so many bytes.

        Raises:
            OSError: the system has none.
        """
        self.descriptor = _anonymous_file(size)
        try:
            self._map = mmap.mmap(self.descriptor, size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._used = 0

    def next(self, width: int, height: int) -> NDArray[np.uint8]:
        """Return the next frame, BGR, read only. It keeps the memory alive.

        Raises:
            ProtocolError: there is no room for one of this size.
        """
        length = width * height * _CHANNELS
        if not 0 < length <= len(self._map) - self._used:
            raise ProtocolError("a frame beyond the memory for frames")
        pixels = np.frombuffer(self._map, np.uint8, length, self._used)
        self._used += length
        return pixels.reshape(height, width, _CHANNELS)

    def close(self) -> None:
        """Give the descriptor back; the memory goes when the last frame does."""
        os.close(self.descriptor)


def _anonymous_file(size: int) -> int:
    if not hasattr(os, "memfd_create"):  # not Linux: nothing can be sealed there
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
