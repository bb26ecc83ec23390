"""Asking the services as a patient client does: the same again, until there is an answer."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

import httpx

from headrace_chaos.endpoints import Endpoints

_TIMEOUT: Final = httpx.Timeout(10, connect=2)
#: They say that the same request may be answered later.
_REPEATABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_KEY_IN_USE: Final = "idempotency_key_in_use"
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 3.0
#: A service that asks for a longer pause is asked again all the same: the run has an end.
_LONGEST_RETRY_AFTER_SECONDS: Final = 10.0


class Asking(Protocol):
    """How requests are sent to a service; by default patiently, see `Asker.ask`."""

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        *,
        patience: float,
        not_known: Callable[[], None] = ...,
        **request: Any,
    ) -> httpx.Response | None:
        """Send a request and return its answer; None if there was none."""


class Asker:
    """Sends requests to any replica of a service. Safe to use from any thread."""

    def __init__(self, endpoints: Endpoints, stop: threading.Event) -> None:
        """Make it; once `stop` is set nothing is repeated any more."""
        self._services = {
            "ingest-api": list(endpoints.ingest_urls),
            "results": list(endpoints.results_urls),
        }
        self._stop = stop
        self._client = httpx.Client(
            headers=endpoints.headers,
            timeout=_TIMEOUT,
            trust_env=False,
            limits=httpx.Limits(max_connections=200),
        )
        self.answers: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        *,
        patience: float,
        not_known: Callable[[], None] = lambda: None,
        **request: Any,
    ) -> httpx.Response | None:
        """Send a request until it is answered for good.

        Args:
            service: whose replicas are asked, one after the other.
            method: of the request.
            path: of the request.
            patience: seconds after which it is given up.
            not_known: called whenever a request may have been done, or not.
            request: for httpx; files must be bytes, so that they can be sent again.

        Returns:
            The answer; None if there was none.
        """
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            answer = self._send(service, method, path, request)
            if answer is not None and not _is_repeatable(answer):
                return answer
            if answer is None or answer.is_server_error:
                not_known()
            wait = max(pause, _retry_after(answer))
            if time.monotonic() + wait > deadline or self._stop.wait(wait):
                return None
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _send(
        self, service: str, method: str, path: str, request: dict[str, Any]
    ) -> httpx.Response | None:
        url = random.choice(self._services[service])  # noqa: S311 - spreads load
        try:
            answer = self._client.request(method, url + path, **request)
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        return answer


def _is_repeatable(answer: httpx.Response) -> bool:
    if answer.status_code == httpx.codes.CONFLICT:
        return str(answer.json().get("code")) == _KEY_IN_USE
    return answer.status_code in _REPEATABLE


def _retry_after(answer: httpx.Response | None) -> float:
    if answer is None:
        return 0.0
    text = answer.headers.get("retry-after", "0")
    return min(float(text), _LONGEST_RETRY_AFTER_SECONDS) if text.isdecimal() else 0.0
