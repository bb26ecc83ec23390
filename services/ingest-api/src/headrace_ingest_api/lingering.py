"""Answering a client that is still sending, so that it gets to read the answer.

Closing a connection with unread bytes resets it, and the reset overtakes the answer on its
way. nginx calls the cure lingering close: answer, read and drop for a while, then close. What
is read and dropped is bounded; uvicorn alone would go on for as long as the client does.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: A body below this is let through to its end by uvicorn, and the connection stays open.
SMALL_BODY_BYTES: Final = 1024 * 1024
#: Some clients read no answer before they have sent everything.
LINGER_BYTES: Final = 512 * 1024 * 1024
#: As nginx's lingering_time and lingering_timeout.
LINGER_SECONDS: Final = 30.0
LINGER_IDLE_SECONDS: Final = 5.0


class LingeringClose:
    """ASGI middleware; the outermost, so that nothing else waits while it lingers."""

    def __init__(self, app: ASGIApp) -> None:
        """Surround `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _may_be_large(scope):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        await self._app(scope, exchange.receive, exchange.send)
        await exchange.close()


def _may_be_large(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    if length.isdecimal():
        return int(length) > SMALL_BODY_BYTES
    return "transfer-encoding" in headers


class _Exchange:
    """One request and its response, whose end is held back while the body is not whole."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = False
        self._lingers = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        if self._body_ended:
            await self._send(message)
        elif message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"connection", b"close")]
            await self._send({**message, "headers": headers})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            self._lingers = True
            await self._send({**message, "more_body": True})

    async def close(self) -> None:
        """Drop what still comes, then end the response and the connection with it."""
        if not self._lingers:
            return
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self._drop()
        except TimeoutError:
            pass  # patience is over: close, whatever still comes
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop(self) -> None:
        dropped = 0
        while not self._body_ended and dropped < LINGER_BYTES:
            async with asyncio.timeout(LINGER_IDLE_SECONDS):
                message = await self.receive()
            dropped += len(message.get("body", b""))
