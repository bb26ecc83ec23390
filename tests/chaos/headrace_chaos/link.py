"""One connection through a proxy: two ends, and what the proxy's mode does between them."""

import asyncio
from http import HTTPStatus
from typing import Final, cast

from headrace_chaos.http_requests import End, Head, NotHttpError, Piece, RequestReader
from headrace_chaos.modes import Blackhole, HttpErrors, Reset
from headrace_chaos.side import Side
from headrace_chaos.situation import Situation

LOOPBACK: Final = "127.0.0.1"
_CONNECT_SECONDS: Final = 5
_INTERIM: Final = b"HTTP/1.1 100"


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
