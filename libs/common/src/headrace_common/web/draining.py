"""Going away without failing anybody: a server that is to stop sends its clients elsewhere first.

A client that keeps its connection may send the next request just as the server closes it. It
sees a reset, and must not repeat a POST by itself. So the server asks each client to go, by
`Connection: close` in its next answer, and closes by itself only what nobody used for a while.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE: Final = (b"connection", b"close")


class ClosingAnswers:
    """ASGI middleware, the outermost: once the stop has begun, each answer ends its connection.

    Where an answer comes before its request has been read to the end, the connection stays open:
    closing it with unread bytes resets it, and the reset overtakes the answer.
    """

    def __init__(self, app: ASGIApp, stopping: asyncio.Event) -> None:
        """Surround `app`; `stopping` is set when the stop begins."""
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_read = not _has_body(scope)

        async def receive_to_the_end() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and is_read and self._stopping.is_set():
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            await send(message)

        await self._app(scope, receive_to_the_end, send_and_close)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
