"""A request's body as it comes in: timed, counted, and ended clearly when the client is gone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from headrace_common.errors import RequestTimeoutError, TooLargeError
from headrace_common.web import own_body_limit


class ClientGoneError(Exception):
    """The client closed its connection before its body was whole."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a client.

    Attributes:
        stall_seconds: without a byte.
        least_bytes_per_second: on average, once `stall_seconds` were spent waiting.
    """

    stall_seconds: float
    least_bytes_per_second: float


def announced_size(request: Request) -> int | None:
    """Return the body's Content-Length; None for a chunked body."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else None


async def receive(
    request: Request, *, patience: Patience, most_bytes: int, refusal: TooLargeError
) -> AsyncIterator[bytes]:
    """Yield the body in the pieces that the socket gives.

    Only waiting for the client counts as waiting: while S3 is slow, the client is held back.

    Args:
        request: whose body has not been touched yet.
        patience: how long to wait for the client.
        most_bytes: that the body may have.
        refusal: what to raise when it has more.

    Raises:
        ClientGoneError: the connection closed.
        RequestTimeoutError: the client sends nothing, or far too slowly.
        TooLargeError: `refusal`.
    """
    own_body_limit(request)
    stream = request.stream()
    clock = asyncio.get_running_loop().time
    received, waited = 0, 0.0
    while True:
        begun = clock()
        try:
            async with asyncio.timeout(patience.stall_seconds):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise RequestTimeoutError(
                f"no byte of the upload came for {patience.stall_seconds:g} seconds"
            ) from None
        except ClientDisconnect:
            raise ClientGoneError from None
        if chunk is None:
            return
        received += len(chunk)
        waited += clock() - begun
        if received > most_bytes:
            raise refusal
        if waited > patience.stall_seconds and received < waited * patience.least_bytes_per_second:
            raise RequestTimeoutError(f"only {received} bytes came in {waited:.0f} seconds")
        if chunk:
            yield chunk
