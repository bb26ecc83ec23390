"""Entry of the decoder process: `python -I -m headrace_gpu_preprocessor.decoder FD`."""

import json
import socket
import struct
import sys

from headrace_gpu_preprocessor.decoder.decode import BASE_URL, DecodeError, Order, decode_clip
from headrace_gpu_preprocessor.decoder.protocol import Channel, Kind, frame_header
from headrace_gpu_preprocessor.decoder.sandbox import close_off, die_with_parent, limit_resources


class _Remote:
    """A resource that the parent fetches."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._handle = _ask(channel, Kind.OPEN, name.encode())

    def read(self, size: int) -> bytes:
        return _ask(self._channel, Kind.READ, self._handle + struct.pack("!I", size))

    def close(self) -> None:
        self._channel.send(Kind.CLOSE, self._handle)


def _ask(channel: Channel, kind: Kind, payload: bytes) -> bytes:
    channel.send(kind, payload)
    return bytes(channel.receive()[1])


def _serve(channel: Channel) -> None:
    _, payload = channel.receive()
    start = json.loads(payload)
    order = Order(**start["order"])
    limit_resources(memory_bytes=start["memory_bytes"], cpu_seconds=start["cpu_seconds"])
    closed_off = close_off()

    def opener(url: str, _flags: int, _options: dict[str, str]) -> _Remote:
        return _Remote(channel, url.removeprefix(BASE_URL))

    def sink(time: float, width: int, height: int, pixels: memoryview) -> None:
        channel.send(Kind.FRAME, frame_header(time, width, height), pixels)

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
