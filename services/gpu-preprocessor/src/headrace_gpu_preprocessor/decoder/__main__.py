"""Entry of the decoder process: `python -I -m headrace_gpu_preprocessor.decoder SOCKET`.

It may be started long before its order comes; nothing limits it while it waits.
"""

import json
import mmap
import socket
import struct
import sys
from typing import Final

from headrace_gpu_preprocessor.decoder.decode import (
    BASE_URL,
    VIDEO_FILE,
    DecodeError,
    Order,
    Pixels,
    decode_clip,
)
from headrace_gpu_preprocessor.decoder.protocol import Channel, Kind, frame_message
from headrace_gpu_preprocessor.decoder.sandbox import close_off, die_with_parent, limit_resources

#: FFmpeg asks for 32 KiB at a time; each question is a turn to the parent and back.
_READ_AHEAD_BYTES: Final = 256 * 1024


class _Remote:
    """A resource that the parent fetches."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._handle = _ask(channel, Kind.OPEN, name.encode())
        self._ahead = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        if self._at == len(self._ahead):
            order = self._handle + struct.pack("!I", max(size, _READ_AHEAD_BYTES))
            self._ahead, self._at = _ask(self._channel, Kind.READ, order), 0
        piece = self._ahead[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        self._channel.send(Kind.CLOSE, self._handle)


class _RemoteFile:
    """The video file that the parent holds; FFmpeg moves about in it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._size = int.from_bytes(_ask(channel, Kind.OPEN, VIDEO_FILE.encode()), "big")
        self._at = 0
        self._ahead = b""
        self._ahead_at = 0

    def read(self, size: int) -> bytes:
        skip = self._at - self._ahead_at
        if not 0 <= skip < len(self._ahead):
            order = struct.pack("!QI", self._at, max(size, _READ_AHEAD_BYTES))
            self._ahead, self._ahead_at = _ask(self._channel, Kind.READ_AT, order), self._at
            skip = 0
        piece = self._ahead[skip : skip + size]
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at


def _ask(channel: Channel, kind: Kind, payload: bytes) -> bytes:
    channel.send(kind, payload)
    return bytes(channel.receive()[1])


class _Frames:
    """The memory that frames are handed over in, one behind the other."""

    def __init__(self, descriptor: int) -> None:
        self._map = memoryview(mmap.mmap(descriptor, 0))
        self._used = 0

    def put(self, pixels: Pixels, width: int, height: int) -> None:
        row = width * 3
        end = self._used + row * height
        pixels.copy_to(self._map[self._used : end], row)
        self._used = end


def _serve(channel: Channel) -> None:
    try:
        memory = channel.receive_descriptor()
    except EOFError:
        return  # a spare that nobody needed
    frames = _Frames(memory)  # before the limit: its address space is reserved already
    _, payload = channel.receive()
    start = json.loads(payload)
    order = Order(**start["order"])
    limit_resources(memory_bytes=start["memory_bytes"], cpu_seconds=start["cpu_seconds"])
    closed_off = close_off()

    def opener(url: str, _flags: int, _options: dict[str, str]) -> _Remote | _RemoteFile:
        name = url.removeprefix(BASE_URL)
        return _RemoteFile(channel) if name == VIDEO_FILE else _Remote(channel, name)

    def sink(time: float, width: int, height: int, pixels: Pixels) -> None:
        frames.put(pixels, width, height)
        channel.send(Kind.FRAME, frame_message(time, width, height))

    try:
        report = decode_clip(order, opener, sink)
    except DecodeError as error:
        channel.send_json(Kind.FAILED, {"code": error.code, "detail": error.detail})
    except Exception as error:  # noqa: BLE001 - the parent names it and ends the job
        channel.send_json(Kind.FAILED, {"code": "decoder_crashed", "detail": repr(error)[:500]})
    else:
        channel.send_json(Kind.DONE, {**report, "closed_off": closed_off})


def main() -> None:
    """Decode one clip for the parent at the other end of the socket."""
    die_with_parent()
    with socket.socket(fileno=int(sys.argv[1])) as end:
        _serve(Channel(end))


if __name__ == "__main__":
    main()
