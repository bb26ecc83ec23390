"""Clients of HTTP services: several at a time, each request over a connection of its own."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

_TIMEOUT_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.1
_AGAIN: Final = frozenset({409, 429, 502, 503, 504})


@dataclass(frozen=True)
class Request:
    """What a client asks for.

    Attributes:
        item: the piece of work that it is.
        url: whole.
        parts: more keyword arguments of `httpx.Client.post`.
    """

    item: str
    url: str
    parts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        body: of the answer, decoded from JSON.
        tries: how often it was sent; more than once where nobody answered, or not for good.
    """

    body: Any
    tries: int


def post_all(
    requests: Sequence[Request], *, at_once: int, headers: Mapping[str, str]
) -> dict[str, Answer]:
    """Send requests, each again and again until it is answered for good.

    A connection for each, as clients that are many have: one that stayed open would keep its
    replica, and the others would get nothing of it.

    Args:
        requests: what to send.
        at_once: how many clients there are.
        headers: of every request.

    Returns:
        The answers, by the requests' items.

    Raises:
        httpx.HTTPStatusError: one was refused.
        TimeoutError: one was not answered for good.
    """
    answers: dict[str, Answer] = {}
    waiting, lock = iter(requests), threading.Lock()

    def client() -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(
            headers=dict(headers), limits=limits, timeout=_TIMEOUT_SECONDS, trust_env=False
        ) as http:
            for request in _each(waiting, lock):
                answers[request.item] = _post(http, request)

    with ThreadPoolExecutor(at_once, "client") as pool:
        for done in [pool.submit(client) for _ in range(at_once)]:
            done.result()
    return answers


def _each(waiting: Iterator[Request], lock: threading.Lock) -> Iterator[Request]:
    while True:
        with lock:
            request = next(waiting, None)
        if request is None:
            return
        yield request


def _post(http: httpx.Client, request: Request) -> Answer:
    until, tries = time.monotonic() + _PATIENCE_SECONDS, 0
    while time.monotonic() < until:
        tries += 1
        try:
            answer = http.post(request.url, **request.parts)
        except httpx.TransportError:
            time.sleep(_PAUSE_SECONDS)
            continue
        if answer.status_code in _AGAIN:
            time.sleep(_PAUSE_SECONDS)
            continue
        answer.raise_for_status()
        return Answer(answer.json(), tries)
    raise TimeoutError(f"{request.url} was not answered for good, in {tries} tries")
