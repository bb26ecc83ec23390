"""What decoder and parent say to each other over a socket pair: one kind, one length, bytes.

No pickle: the parent must survive a decoder that a crafted stream has taken over.
"""

import json
import socket
import struct
import threading
from enum import IntEnum
from typing import Any, Final

_HEADER: Final = struct.Struct("!BI")
_FRAME: Final = struct.Struct("!dII")
#: A descriptor travels with at least one byte.
_WITH_DESCRIPTOR: Final = b"D"
#: Longest message: names, reports, pieces of media.
MAX_MESSAGE_BYTES: Final = 1024 * 1024


class Kind(IntEnum):
    """Kinds of message."""

    START = 1  # parent: the order, as JSON
    OPEN = 2  # child: name of a resource; parent: DATA, its handle, or the size of the file
    READ = 3  # child: handle and number of bytes; parent: DATA, empty at the end
    CLOSE = 4  # child: handle
    DATA = 5
    FRAME = 6  # child: clip time, width, height; the BGR pixels are in the shared memory
    DONE = 7  # child: the report, as JSON
    FAILED = 8  # child: code and detail, as JSON
    READ_AT = 9  # child: offset and number of bytes of the file; parent: DATA, empty at the end


class ProtocolError(Exception):
    """The other side does not keep to the protocol."""


class Channel:
    """One end of the socket pair; several threads may send, one receives."""

    def __init__(self, end: socket.socket) -> None:
        """Take over a connected stream socket."""
        self.socket = end
        self._sending = threading.Lock()

    def send(self, kind: Kind, *parts: bytes | memoryview) -> None:
        """Send a message made of several buffers."""
        length = sum(len(part) for part in parts)
        with self._sending:
            self.socket.sendall(_HEADER.pack(kind, length))
            for part in parts:
                if part:  # an empty one would fail if the other side has read all and gone
                    self.socket.sendall(part)

    def send_json(self, kind: Kind, value: dict[str, Any]) -> None:
        """Send a message of JSON."""
        self.send(kind, json.dumps(value).encode())

    def send_descriptor(self, descriptor: int) -> None:
        """Share an open file; the other side must wait for it and nothing else."""
        socket.send_fds(self.socket, [_WITH_DESCRIPTOR], [descriptor])

    def receive_descriptor(self) -> int:
        """Wait for an open file.

        Raises:
            EOFError: the other side is gone.
            ProtocolError: something else came.
        """
        byte, descriptors, _, _ = socket.recv_fds(self.socket, len(_WITH_DESCRIPTOR), 1)
        if not byte:
            raise EOFError
        if byte != _WITH_DESCRIPTOR or len(descriptors) != 1:
            raise ProtocolError("no descriptor")
        return descriptors[0]

    def receive(self) -> tuple[Kind, bytearray]:
        """Wait for a message.

        Raises:
            EOFError: the other side is gone.
            ProtocolError: unknown kind, or too long.
            TimeoutError: the socket's time-out passed.
        """
        number, length = _HEADER.unpack(self._exactly(_HEADER.size))
        if number not in set(Kind) or length > MAX_MESSAGE_BYTES:
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


def frame_message(time: float, width: int, height: int) -> bytes:
    """Return what announces a frame."""
    return _FRAME.pack(time, width, height)


def read_frame(payload: bytearray) -> tuple[float, int, int]:
    """Return clip time, width and height of a FRAME message.

    Raises:
        ProtocolError: it is none.
    """
    if len(payload) != _FRAME.size:
        raise ProtocolError("a frame of another length")
    time, width, height = _FRAME.unpack(payload)
    return time, width, height
