"""Clients that send everything once.

They keep a connection as long as the server lets them, and do not look whether it was closed
before they send on it: over a network such news is late by its way, and on loopback looking would
hide what fails there.
"""

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from headrace_rolling.tally import Tally, is_failure, kind_of

#: Above any wait of a loaded machine: what takes that long has failed.
_TIMEOUT_SECONDS: Final = 60.0
#: An idle connection is given up after that, as httpx's clients do after 5 s.
KEEP_SECONDS: Final = 4.0
_IN_USE: Final = "idempotency_key_in_use"
_IN_USE_PAUSE_SECONDS: Final = 0.2


class KeptConnection:
    """One client's connection to one service. For one thread."""

    def __init__(self, url: str, headers: Mapping[str, str], *, keeps: bool) -> None:
        """Make it; it connects when something is sent.

        Args:
            url: of the service.
            headers: of every request.
            keeps: whether the connection is used for more than one request.
        """
        parts = urlsplit(url)
        self._url = url
        self._keeps = keeps
        self._headers = dict(headers) if keeps else {**headers, "connection": "close"}
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS
        )
        self._used = 0.0

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request and return its answer.

        Raises:
            OSError, http.client.HTTPException: there was none.
        """
        headers = {**self._headers, **request.pop("headers", {})}
        asked = httpx.Request(method, self._url + path, headers=headers, **request)
        if not self._keeps or time.monotonic() - self._used > KEEP_SECONDS:
            self._connection.close()
        try:
            self._connection.request(
                method, asked.url.raw_path.decode(), asked.read(), dict(asked.headers)
            )
            answer = self._connection.getresponse()
            content = answer.read()
        except BaseException:
            self._connection.close()
            raise
        self._used = time.monotonic()
        return httpx.Response(
            answer.status, headers=answer.getheaders(), content=content, request=asked
        )

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class Keyless:
    """Sends as another does, but without Idempotency-Key."""

    def __init__(self, asker: "OneTry") -> None:
        """Send by `asker`."""
        self._asker = asker

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        *,
        patience: float = 0,
        not_known: Callable[[], None] = lambda: None,
        **request: Any,
    ) -> httpx.Response | None:
        """Send a request, and return its answer; None if there was none."""
        given = request.pop("headers", {})
        headers = {name: value for name, value in given.items() if name != "idempotency-key"}
        return self._asker.ask(
            service, method, path, not_known=not_known, headers=headers, **request
        )


class OneTry:
    """Sends requests to services, each once, and counts them. From any thread."""

    def __init__(
        self, urls: Mapping[str, str], headers: Mapping[str, str], tally: Tally, *, keeps: bool
    ) -> None:
        """Make it.

        Args:
            urls: of the services by name.
            headers: of every request.
            tally: counts.
            keeps: whether each thread keeps a connection to each service.
        """
        self._urls = urls
        self._headers = headers
        self._tally = tally
        self._keeps = keeps
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._all: list[KeptConnection] = []

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        *,
        patience: float = 0,
        not_known: Callable[[], None] = lambda: None,
        **request: Any,
    ) -> httpx.Response | None:
        """Send a request, and return its answer; None if there was none.

        Whose key is in use asks again a little later: so says the answer. Nothing else is
        repeated, whatever `patience` there is.
        """
        kind = kind_of(method, path)
        if "idempotency-key" in request.get("headers", {}):
            kind += ", with a key"
        while True:
            self._tally.sent(kind)
            try:
                answer = self._connection(service).send(method, path, **request)
            except (OSError, http.client.HTTPException) as error:
                self._tally.failed(kind, type(error).__name__)
                not_known()
                return None
            if answer.status_code == 409 and answer.json().get("code") == _IN_USE:
                time.sleep(_IN_USE_PAUSE_SECONDS)
                continue
            if is_failure(answer.status_code):
                self._tally.failed(kind, f"{answer.status_code} {answer.text[:200]}")
                not_known()
            return answer

    def close(self) -> None:
        """Close every thread's connections."""
        with self._lock:
            for each in self._all:
                each.close()

    def _connection(self, service: str) -> KeptConnection:
        kept: dict[str, KeptConnection] = self._mine.__dict__
        if service not in kept:
            made = KeptConnection(self._urls[service], self._headers, keeps=self._keeps)
            with self._lock:
                self._all.append(made)
            kept[service] = made
        return kept[service]
