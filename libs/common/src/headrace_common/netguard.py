"""The one way out to a URL that somebody else chose: every request goes through here (N, SSRF).

A URL is taken apart once, its host resolved once, *every* address checked, and the connection
made to an address that was checked: a name that resolves differently a moment later gains
nothing. Each redirect is a new URL and passes all of it again. Bytes, hops, silence and the whole
time are limited, so that a server that drips or never ends costs a known amount.

Proxies of the environment are not used: they would connect where this module did not look.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final
from urllib.parse import urljoin

import httpcore

from headrace_common.errors import (
    HeadraceError,
    TooLargeError,
    UnavailableError,
)
from headrace_common.netaddress import (
    DEFAULT_PORTS,
    AddressRefusedError,
    NetworkPolicy,
    UrlRefusedError,
    refusal,
    split_url,
)
from headrace_common.netpinned import PinnedBackend

__all__ = [
    "AddressRefusedError",
    "FetchLimits",
    "FetchTimeoutError",
    "FetchTooLargeError",
    "NetGuard",
    "NetworkPolicy",
    "RedirectsRefusedError",
    "Response",
    "Target",
    "TruncatedError",
    "UnreachableError",
    "UpstreamStatusError",
    "UrlRefusedError",
    "resolve_host",
]

Resolver = Callable[[str, int], list[str]]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class RedirectsRefusedError(HeadraceError):
    """More redirects than are followed."""

    code = "too_many_redirects"
    status = 502
    title = "Too many redirects"


class FetchTimeoutError(UnavailableError):
    """The server was silent, or slow, for longer than it may be."""

    code = "fetch_timeout"
    status = 504
    title = "Server too slow"


class UnreachableError(UnavailableError):
    """The name does not resolve, or nothing answers there in HTTP."""

    code = "unreachable"
    status = 502
    title = "Server not reachable"


class TruncatedError(UnavailableError):
    """The connection ended before the answer did."""

    code = "fetch_truncated"
    status = 502
    title = "Answer was cut off"


class FetchTooLargeError(TooLargeError):
    """The answer has more bytes than are read."""

    code = "fetch_too_large"
    title = "Answer too large"


class UpstreamStatusError(HeadraceError):
    """The server answered with a status that is not a success; `answered` has it."""

    code = "upstream_status"
    status = 502
    title = "Server refused"
    retryable = True

    def __init__(self, detail: str, *, answered: int) -> None:
        """Make the error from the status that came."""
        super().__init__(detail, answered=answered)
        self.answered = answered


@dataclass(frozen=True)
class FetchLimits:
    """What one request may cost. Seconds and bytes."""

    connect_seconds: float = 5.0
    silence_seconds: float = 5.0
    total_seconds: float = 30.0
    max_bytes: int = 64 * 1024 * 1024
    max_redirects: int = 5


@dataclass(frozen=True)
class Target:
    """A URL that passed, with the addresses that were checked; only these are connected to."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]


@dataclass
class Response:
    """An answer that is being read: iterate over it once, or `read` it whole."""

    url: str
    status: int
    content_type: str
    _chunks: Iterator[bytes] = field(repr=False)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def read(self) -> bytes:
        """Return the whole body; its size is limited already."""
        return b"".join(self._chunks)


def resolve_host(host: str, port: int) -> list[str]:
    """Return every address of a host, A and AAAA, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class NetGuard:
    """Fetches URLs under a policy. Threads may share it: it keeps no connection."""

    def __init__(
        self,
        policy: NetworkPolicy | None = None,
        limits: FetchLimits | None = None,
        *,
        resolve: Resolver = resolve_host,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Make a guard.

        Args:
            policy: which hosts; without one, public addresses only.
            limits: what one request may cost.
            resolve: from host and port to addresses.
            ssl_context: for private certificate authorities; else the system's trust.
        """
        self.policy = policy or NetworkPolicy()
        self.limits = limits or FetchLimits()
        self._resolve = resolve
        self._ssl_context = ssl_context or ssl.create_default_context()

    def check(self, url: str) -> Target:
        """Take a URL apart, resolve its host once and check every address.

        Raises:
            UrlRefusedError: scheme or form.
            AddressRefusedError: host or address.
            UnreachableError: the name does not resolve.
            FetchTimeoutError: the resolver did not answer in time.
        """
        scheme, host, port, path = split_url(url)
        named = self.policy.names(host, port)
        if self.policy.allowed_hosts and not named:
            raise AddressRefusedError(f"host {host}:{port} is not in the list of allowed hosts")
        addresses = _resolve_within(self._resolve, host, port, self.limits.connect_seconds)
        for address in addresses:
            if reason := refusal(address, private_allowed=named):
                raise AddressRefusedError(f"host {host} resolves to an address that is {reason}")
        return Target(scheme, host, port, path, tuple(addresses))

    @contextmanager
    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        total_seconds: float | None = None,
    ) -> Iterator[Response]:
        """GET a URL and read its answer as it comes.

        Args:
            url: absolute, http or https.
            headers: besides those that are always sent.
            max_bytes: of the body, where less than the limit.
            total_seconds: for everything, where less than the limit.

        Raises:
            HeadraceError: one of this module's, while opening or while reading.
        """
        total = min(total_seconds or self.limits.total_seconds, self.limits.total_seconds)
        most = min(max_bytes or self.limits.max_bytes, self.limits.max_bytes)
        deadline = time.monotonic() + total
        for _ in range(self.limits.max_redirects + 1):
            with self._request(url, headers or {}, deadline) as answer:
                location = _header(answer, b"location")
                if answer.status not in _REDIRECTS or not location:
                    yield _response(url, answer, most)
                    return
            url = urljoin(url, location)
        raise RedirectsRefusedError(f"more than {self.limits.max_redirects} redirects")

    def fetch(self, url: str, *, max_bytes: int | None = None) -> bytes:
        """GET a URL and return its whole body; errors as `open`."""
        with self.open(url, max_bytes=max_bytes) as response:
            return response.read()

    @contextmanager
    def _request(
        self, url: str, headers: Mapping[str, str], deadline: float
    ) -> Iterator[httpcore.Response]:
        target = self.check(url)
        backend = PinnedBackend(target.addresses, self.limits.connect_seconds, deadline)
        standard = {
            "Host": _authority(target),
            "User-Agent": "headrace",
            "Accept": "*/*",
            "Accept-Encoding": "identity",  # compressed bytes could not be counted
            "Connection": "close",
        }
        timeouts = {"connect": self.limits.connect_seconds, "read": self.limits.silence_seconds}
        request_url = httpcore.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path
        )
        with (
            _errors_named(target.host),
            httpcore.ConnectionPool(network_backend=backend, ssl_context=self._ssl_context) as pool,
            pool.stream(
                "GET",
                request_url,
                headers=[*standard.items(), *headers.items()],
                extensions={"timeout": timeouts},
            ) as answer,
        ):
            yield answer


def _resolve_within(resolve: Resolver, host: str, port: int, seconds: float) -> list[str]:
    """Resolve on a thread of its own: getaddrinfo has no time-out and cannot be stopped."""
    results: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

    def run() -> None:
        try:
            results.put(resolve(host, port))
        except (OSError, UnicodeError) as error:
            results.put(error)

    threading.Thread(target=run, name="resolve", daemon=True).start()
    try:
        found = results.get(timeout=seconds)
    except Empty:
        raise FetchTimeoutError(f"{host} did not resolve within {seconds:g} s") from None
    if isinstance(found, Exception) or not found:
        raise UnreachableError(f"{host} does not resolve")
    return found


def _authority(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    default = DEFAULT_PORTS[target.scheme] == target.port
    return host if default else f"{host}:{target.port}"


def _header(answer: httpcore.Response, name: bytes) -> str:
    return next((v.decode("latin-1") for key, v in answer.headers if key.lower() == name), "")


def _response(url: str, answer: httpcore.Response, max_bytes: int) -> Response:
    if not 200 <= answer.status < 300:
        raise UpstreamStatusError(f"the server answered {answer.status}", answered=answer.status)
    length = _header(answer, b"content-length")
    if length.isdigit() and int(length) > max_bytes:
        raise FetchTooLargeError(f"the answer has {length} bytes; {max_bytes} are read")
    chunks = _limited(answer.iter_stream(), max_bytes, split_url(url)[1])
    return Response(url, answer.status, _header(answer, b"content-type"), chunks)


def _limited(chunks: Iterable[bytes], max_bytes: int, host: str) -> Iterator[bytes]:
    count = 0
    with _errors_named(host):  # here too: a body may be read outside the block that opened it
        for chunk in chunks:
            count += len(chunk)
            if count > max_bytes:
                raise FetchTooLargeError(f"the answer has more than {max_bytes} bytes")
            yield chunk


@contextmanager
def _errors_named(host: str) -> Iterator[None]:
    """Give httpcore's errors this module's names."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise FetchTimeoutError(f"{host} was silent or slow for too long") from error
    except (httpcore.RemoteProtocolError, httpcore.ReadError) as error:
        raise TruncatedError(
            f"{host} ended the connection early, or does not speak HTTP"
        ) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise UnreachableError(f"{host} cannot be reached") from error
