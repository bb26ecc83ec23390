"""One connection through a proxy: two ends, and what the proxy's mode does between them."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final, cast

from headrace_chaos.http_requests import End, Head, NotHttpError, Piece, RequestReader
from headrace_chaos.modes import Blackhole, HttpErrors, Mode, Pass, Reset, Slow

LOOPBACK: Final = "127.0.0.1"
#: Above this a slowed direction takes nothing more from its sender.
_MAX_LATE_BYTES: Final = 256 * 1024
_CONNECT_SECONDS: Final = 5
_INTERIM: Final = b"HTTP/1.1 100"
#: Makes a close a reset: linger, for zero seconds.
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass
class Traffic:
    """What went through a proxy, and what did not.

    Attributes:
        connections: accepted.
        failed: HTTP requests that were answered with an error before the server saw them.
        unanswered: HTTP requests that the server did, and whose answers were replaced.
    """

    connections: int = 0
    failed: int = 0
    unanswered: int = 0


@dataclass
class Situation:
    """What all links of a proxy share.

    Attributes:
        upstreams: ports of the servers behind it, used in turn.
        mode: what happens to data now.
        changed: set and replaced when the mode changes.
        traffic: the counters.
        links: those that are open.
        chance: decides which request fails, and when a connection is reset.
    """

    upstreams: Sequence[int]
    mode: Mode = field(default_factory=Pass)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    traffic: Traffic = field(default_factory=Traffic)
    links: "set[Link]" = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311
    turn: int = 0

    def next_upstreams(self) -> Sequence[int]:
        """Return the upstreams in the order in which a new connection tries them."""
        if not self.upstreams:
            return ()
        self.turn = (self.turn + 1) % len(self.upstreams)
        return [*self.upstreams[self.turn :], *self.upstreams[: self.turn]]


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
        self._late_bytes = 0
        self._free_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
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
        if transport is None or transport.is_closing():
            return
        if reset:
            _reset_at_close(transport)
            transport.abort()
        else:
            transport.close()


class Link:
    """A client's connection and the one to the server behind the proxy."""

    def __init__(self, situation: Situation) -> None:
        """Make it for a connection that is being accepted."""
        self.situation = situation
        self.client = Side(self._from_client, self)
        self.server = Side(self._from_server, self)
        self.client.other, self.server.other = self.server, self.client
        self.client.hold("connecting")
        self._requests = RequestReader() if isinstance(situation.mode, HttpErrors) else None
        self._fate: HttpErrors | None = None  # of the request under way, if it fails
        self._swallow = False
        self._answered = False
        self._ends_of_data = 0
        self._connecting: asyncio.Task[None] | None = None

    def accepted(self) -> asyncio.Protocol:
        """Begin, and return what the client's socket speaks to."""
        self.situation.links.add(self)
        self.situation.traffic.connections += 1
        self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return self.client

    async def _connect(self) -> None:
        while isinstance(self.situation.mode, Blackhole):
            await self.situation.changed.wait()
        mode = self.situation.mode
        if isinstance(mode, Reset):
            seconds = self.situation.chance.uniform(0, mode.within_seconds)
            asyncio.get_running_loop().call_later(seconds, self.reset)
        for port in self.situation.next_upstreams():
            try:
                connecting = asyncio.get_running_loop().create_connection(
                    lambda: self.server, LOOPBACK, port
                )
                await asyncio.wait_for(connecting, _CONNECT_SECONDS)
            except OSError:
                continue
            self.client.release("connecting")
            return
        self.reset()

    def _from_server(self, data: bytes) -> None:
        if self._swallow and not data.startswith(_INTERIM):
            self.situation.traffic.unanswered += 1
            self._answer(cast("HttpErrors", self._fate))
            return
        self.server.send_on(data)

    def _from_client(self, data: bytes) -> None:
        if self._answered:
            return
        if self._requests is None:
            self.client.send_on(data)
            return
        try:
            for event in self._requests.feed(data):
                if not self._answered:
                    self._request_event(event)
        except NotHttpError:
            self._requests = None
            self.client.send_on(data)

    def _request_event(self, event: Head | Piece | End) -> None:
        if isinstance(event, Head):
            self._decide()
        mode = self._fate
        if mode is None or self._swallow:
            if not isinstance(event, End):
                self.client.send_on(event.raw)
            return
        if isinstance(event, End) or (isinstance(event, Head) and event.waits):
            self.situation.traffic.failed += 1
            self._answer(mode)

    def _decide(self) -> None:
        """Draw what happens to the request that begins."""
        mode, chance = self.situation.mode, self.situation.chance
        fails = isinstance(mode, HttpErrors) and chance.random() < mode.rate
        self._fate = mode if isinstance(mode, HttpErrors) and fails else None
        self._swallow = self._fate is not None and chance.random() < self._fate.done_share

    def _answer(self, mode: HttpErrors) -> None:
        """Answer with an error, and close."""
        self._answered = True
        text = b'{"message": "a fault of the chaos suite"}'
        head = [
            f"HTTP/1.1 {mode.status} {HTTPStatus(mode.status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(text)}",
            "Connection: close",
        ]
        if mode.retry_after is not None:
            head.append(f"Retry-After: {mode.retry_after}")
        if self.client.transport is not None and not self.client.transport.is_closing():
            self.client.transport.write("\r\n".join([*head, "", ""]).encode() + text)
        self.client.close(reset=False)
        self.server.close(reset=True)

    def hold(self) -> None:
        """Let nothing through in either direction."""
        self.client.hold("blackhole")
        self.server.hold("blackhole")

    def release(self) -> None:
        """Undo `hold`."""
        self.client.release("blackhole")
        self.server.release("blackhole")

    def reset(self) -> None:
        """Reset both connections."""
        if self._connecting is not None:
            self._connecting.cancel()
        self.client.close(reset=True)
        self.server.close(reset=True)
        self.situation.links.discard(self)

    def end_of_data(self) -> None:
        """One side has said all; when both have, the link is done."""
        self._ends_of_data += 1
        if self._ends_of_data == 2:
            self.client.close(reset=False)
            self.server.close(reset=False)

    def end_lost(self, end: Side, *, reset: bool) -> None:
        """One side is gone: so is the other, once it has what came before."""
        other = self.server if end is self.client else self.client
        if self._connecting is not None:
            self._connecting.cancel()
        if reset:
            other.close(reset=True)
        else:
            end.close_other()
        self.situation.links.discard(self)


def _reset_at_close(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
