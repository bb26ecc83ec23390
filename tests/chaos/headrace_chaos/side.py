"""One end of a connection through a proxy: a socket whose data goes to the other end."""

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from headrace_chaos.modes import Slow

if TYPE_CHECKING:
    from headrace_chaos.link import Link

#: Above this a slowed direction takes nothing more from its sender.
_MAX_LATE_BYTES: Final = 256 * 1024
#: Makes a close a reset: linger, for zero seconds.
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Side(asyncio.Protocol):
    """One end of a link: a socket whose data goes to the other end."""

    def __init__(self, on_data: Callable[[bytes], None], link: "Link") -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self._on_data = on_data
        self._link = link
        self._holds: set[str] = set()
        self._early: list[bytes] = []  # for a socket that is not there yet
        self._ended = False  # nothing more is to be written
        self._refused = False  # to be reset as soon as there is a socket
        self._late_bytes = 0
        self._free_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._refused:
            self.close(reset=True)
            return
        if self._holds:
            self.transport.pause_reading()
        self.transport.writelines(self._early)
        self._early.clear()
        if self._ended:
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def eof_received(self) -> bool:
        self._later(0, self._pass_eof)
        return True

    def _pass_eof(self) -> None:
        if self.other is not None:
            self.other.write_eof()
        self._link.end_of_data()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.end_lost(self, reset=exc is not None)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.hold("backlog")

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.release("backlog")

    def hold(self, reason: str) -> None:
        """Read nothing until the reason is released, and every other."""
        if not self._holds and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds.add(reason)

    def release(self, reason: str) -> None:
        """Undo `hold`."""
        if reason not in self._holds:
            return
        self._holds.discard(reason)
        if not self._holds and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def send_on(self, data: bytes) -> None:
        """Give data to the other end, late if the mode says so."""
        self._later(len(data), lambda: self._give(data))

    def _give(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send, now or when there is a socket; a loop may read on for a moment after a pause."""
        if self.transport is None:
            self._early.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def _later(self, size: int, do: Callable[[], None]) -> None:
        mode, loop = self._link.situation.mode, asyncio.get_running_loop()
        now = loop.time()
        if not isinstance(mode, Slow):
            if self._late_bytes or self._free_at > now:  # nothing overtakes what is under way
                loop.call_at(self._free_at, do)
            else:
                do()
            return
        start = max(now + mode.delay_seconds, self._free_at)
        self._free_at = start + size / mode.bytes_per_second
        self._late_bytes += size
        if self._late_bytes > _MAX_LATE_BYTES:
            self.hold("late")
        loop.call_at(self._free_at, self._arrive, size, do)

    def _arrive(self, size: int, do: Callable[[], None]) -> None:
        self._late_bytes -= size
        if self._late_bytes <= _MAX_LATE_BYTES:
            self.release("late")
        do()

    def write_eof(self) -> None:
        """Say that nothing more is sent, now or when there is a socket."""
        self._ended = True
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def close_other(self) -> None:
        """Close the other end, once it has what is under way to it."""
        if self.other is not None:
            self._later(0, partial(self.other.close, reset=False))

    def close(self, *, reset: bool) -> None:
        """Close the socket, after what is to be sent unless it is a reset."""
        transport = self.transport
        if transport is None:
            self._refused = self._refused or reset
            return
        if transport.is_closing():
            return
        if reset:
            _reset_at_close(transport)
            transport.abort()
        else:
            transport.close()


def _reset_at_close(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
