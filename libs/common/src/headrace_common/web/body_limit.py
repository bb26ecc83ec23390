"""A limit on request bodies, so that no JSON body fills the memory.

FastAPI has one of its own, whose answer to a Content-Length above it is always plain text, also
where the route answered something else.
"""

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SCOPE_KEY: Final = "headrace.body_limit"


@dataclass
class _Limit:
    """Of one request; None once the route sees to it."""

    most_bytes: int | None


class BodyLimit:
    """Refuses bodies above a limit with 413, as soon as somebody reads them."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        """Surround `app`."""
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = scope[_SCOPE_KEY] = _Limit(self._most_bytes)
        announced = Headers(scope=scope).get("content-length", "")
        expected = int(announced) if announced.isdecimal() else 0
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            _check(limit, expected)
            message = await receive()
            received += len(message.get("body", b""))
            _check(limit, received)
            return message

        await self._app(scope, receive_within_limit, send)


def own_body_limit(request: HTTPConnection) -> None:
    """Lift the limit from a request whose body its route reads as a stream, and bounds itself."""
    limit: _Limit | None = request.scope.get(_SCOPE_KEY)
    if limit is not None:
        limit.most_bytes = None


def _check(limit: _Limit, size: int) -> None:
    if limit.most_bytes is not None and size > limit.most_bytes:
        # FastAPI lets nothing else than its own kind of error out of its reading of a body.
        raise HTTPException(413, f"the body may have {limit.most_bytes} bytes at most")
