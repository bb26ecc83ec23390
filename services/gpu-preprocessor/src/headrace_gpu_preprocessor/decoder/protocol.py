"""What decoder and parent say to each other over a socket pair: one kind, one length, bytes.

No pickle: the parent must survive a decoder that a crafted stream has taken over.
"""

import json
import socket
import struct
from enum import IntEnum
from typing import Any, Final

_HEADER: Final = struct.Struct("!BI")
_FRAME: Final = struct.Struct("!dII")
#: Longest message that is not a frame: names, reports, pieces of media.
MAX_MESSAGE_BYTES: Final = 1024 * 1024


class Kind(IntEnum):
    """Kinds of message."""

    START = 1  # parent: the order, as JSON
    OPEN = 2  # child: name of a resource; parent: DATA, its handle
    READ = 3  # child: handle and number of bytes; parent: DATA, empty at the end
    CLOSE = 4  # child: handle
    DATA = 5
    FRAME = 6  # child: clip time, width, height, BGR pixels
    DONE = 7  # child: the report, as JSON
    FAILED = 8  # child: code and detail, as JSON


class ProtocolError(Exception):
    """The other side does not keep to the protocol."""


class Channel:
    """One end of the socket pair."""

    def __init__(self, end: socket.socket) -> None:
        """Take over a connected stream socket."""
        self.socket = end

    def send(self, kind: Kind, *parts: bytes | memoryview) -> None:
        """Send a message made of several buffers."""
        length = sum(len(part) for part in parts)
        self.socket.sendall(_HEADER.pack(kind, length))
        for part in parts:
            if part:  # an empty one would fail if the other side has read all and gone
                self.socket.sendall(part)

    def send_json(self, kind: Kind, value: dict[str, Any]) -> None:
        """Send a message of JSON."""
        self.send(kind, json.dumps(value).encode())

    def receive(self, *, max_bytes: int = MAX_MESSAGE_BYTES) -> tuple[Kind, bytearray]:
        """Wait for a message.

        Raises:
            EOFError: the other side is gone.
            ProtocolError: unknown kind, or longer than `max_bytes`.
            TimeoutError: the socket's time-out passed.
        """
        number, length = _HEADER.unpack(self._exactly(_HEADER.size))
        if number not in set(Kind) or length > max_bytes:
            raise ProtocolError(f"message {number} of {length} bytes")
        return Kind(number), self._exactly(length)

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        while done < size:
            count = self.socket.recv_into(view[done:])
            if count == 0:
                raise EOFError
            done += count
        return data


def frame_header(time: float, width: int, height: int) -> bytes:
    """Return what stands before the pixels of a frame."""
    return _FRAME.pack(time, width, height)


def read_frame(payload: bytearray) -> tuple[float, int, int, memoryview]:
    """Return clip time, width, height and BGR pixels of a FRAME message.

    Raises:
        ProtocolError: the sizes do not agree.
    """
    if len(payload) < _FRAME.size:
        raise ProtocolError("frame without its header")
    time, width, height = _FRAME.unpack_from(payload)
    pixels = memoryview(payload)[_FRAME.size :]
    if len(pixels) != width * height * 3 or not width or not height:
        raise ProtocolError("frame of another size than it says")
    return time, width, height, pixels
