"""Calls to Swift: a connection for each thread, time-outs, tokens, repetition, errors.

python-swiftclient has one socket and one token in a `Connection`, waits without end by default
and raises what four libraries raise. Here every wait ends, and every failure is a `SwiftError`.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

import swiftclient
import urllib3
from keystoneauth1.exceptions import ClientException as KeystoneException
from requests import RequestException
from swiftclient.client import logger_settings
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from headrace_common.retry_after import retry_after_seconds
from headrace_gpu_preprocessor.artifacts.errors import (
    SwiftError,
    SwiftFullError,
    SwiftMisconfiguredError,
    SwiftNotFoundError,
    SwiftRefusedError,
    SwiftUnauthorizedError,
    SwiftUnavailableError,
)
from headrace_gpu_preprocessor.artifacts.identity import Identity
from headrace_gpu_preprocessor.artifacts.metrics import SWIFT_REPEATED, SWIFT_SECONDS
from headrace_gpu_preprocessor.artifacts.settings import SwiftSettings

T = TypeVar("T")
#: Called before each request that changes something; raises to prevent it.
Check = Callable[[], None]
#: The library has no types.
Connection = Any

_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 4.0
#: Statuses that say "not now": time-outs, wrong checksum on arrival, rate limits.
_NOT_NOW: Final = frozenset({408, 422, 429, 498, 499})

#: It writes requests with the first letters of their tokens at INFO.
logging.getLogger("swiftclient").setLevel(logging.WARNING)
logger_settings["reveal_sensitive_prefix"] = 0


def no_check() -> None:
    """Let everything happen."""


class Connections:
    """Calls functions with a connection. Safe for several threads."""

    def __init__(self, settings: SwiftSettings) -> None:
        """Use the settings; nothing is connected to before the first call."""
        self._settings = settings
        self.identity = Identity(settings)
        self._local = threading.local()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def release(self) -> None:
        """Close the connection of this thread, which is about to end or to rest.

        Without it the socket would stay open until the garbage collector comes by.
        """
        connection = getattr(self._local, "connection", None)
        if connection is None:
            return
        del self._local.connection
        with self._lock:
            self._open.discard(connection)
        _close(connection)

    def close(self) -> None:
        """Close all; no other thread may be in a call."""
        with self._lock:
            for connection in list(self._open):
                _close(connection)
        self.identity.close()

    def call(
        self,
        operation: str,
        do: Callable[[Connection], T],
        check: Check = no_check,
        *,
        repeat: bool = True,
    ) -> T:
        """Return what `do` returns; repeat it while that may help.

        Args:
            operation: for the metrics.
            do: gets the thread's connection; may be called several times.
            check: called before each of them.
            repeat: False for one time only.

        Raises:
            SwiftError: it failed.
        """

        def attempt() -> T:
            check()
            return self._once(operation, do)

        repeating = Retrying(
            stop=stop_after_attempt(1 + self._settings.swift_retries if repeat else 1),
            wait=_pause,
            retry=retry_if_exception(_is_worth_repeating),
            before_sleep=lambda _: SWIFT_REPEATED.labels(operation=operation).inc(),
            reraise=True,
        )
        return repeating(attempt)

    def _once(self, operation: str, do: Callable[[Connection], T]) -> T:
        started, outcome = time.monotonic(), "ok"
        try:
            return self._with_token(do)
        except SwiftError as error:
            outcome = error.code
            raise
        except (
            *(swiftclient.ClientException, KeystoneException, RequestException),
            *(urllib3.exceptions.HTTPError, OSError),
        ) as error:
            told = self._translate(error)
            outcome = told.code
            raise told from None
        finally:
            seconds = time.monotonic() - started
            SWIFT_SECONDS.labels(operation=operation, outcome=outcome).observe(seconds)

    def _with_token(self, do: Callable[[Connection], T]) -> T:
        """Do it; once more with a new token if the token is refused: it may have been revoked."""
        connection = self._connection()
        token = connection.token  # the library drops it when it is refused
        try:
            return do(connection)
        except swiftclient.ClientException as error:
            if error.http_status != 401:
                raise
        self.identity.forget(token)
        return do(self._connection())

    def _connection(self) -> Connection:
        """Return the thread's connection, with a token that is good as far as is known."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            with self._lock:
                self._open.add(connection)
        url, token = self.identity.storage_url(), self.identity.token()
        if url != connection.url:
            _close(connection)
        connection.url, connection.token = url, token
        return connection

    def _connect(self) -> Connection:
        settings = self._settings
        return swiftclient.Connection(
            retries=0,  # those are ours
            timeout=(
                settings.swift_connect_timeout_seconds,
                settings.swift_read_timeout_seconds,
            ),
            cacert=settings.os_cacert,
        )

    def _translate(self, error: Exception) -> SwiftError:
        """Return what an error of one of the libraries means to us."""
        if isinstance(error, KeystoneException):
            return self.identity.explain(error)
        if not isinstance(error, swiftclient.ClientException):
            what = f"{type(error).__name__}: {str(error)[:200]}"
            return SwiftUnavailableError(f"Swift does not answer: {what}")
        if not error.http_status:
            return SwiftMisconfiguredError(f"Swift cannot be used: {error.msg}")
        what = f"Swift answers {error.http_status} ({error.http_reason}) for {error.http_path}"
        if error.transaction_id:
            what += f", transaction {error.transaction_id}"
        kind = _kind(error.http_status)
        if kind is SwiftUnauthorizedError:
            settings = self._settings
            what += f"; user {settings.os_username!r} in project {settings.os_project_name!r}"
        return kind(what, retry_after=_retry_after(error))


def _close(connection: Connection) -> None:
    """Close a connection and its sockets.

    The libraries only let go of these: urllib3 closes those of a pool that nobody has any more,
    when the garbage collector finds it.
    """
    if connection.http_conn:
        http = connection.http_conn[1]
        if http.resp is not None:  # one that is an error counts as false
            http.resp.close()
        for adapter in http.request_session.adapters.values():
            for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
                for key in manager.pools.keys():  # noqa: SIM118 - it cannot be iterated over
                    manager.pools[key].close()
    connection.close()


def _kind(status: int) -> type[SwiftError]:
    if status in _NOT_NOW or (status >= 500 and status != 507):
        return SwiftUnavailableError
    return {
        401: SwiftUnauthorizedError,
        403: SwiftUnauthorizedError,
        404: SwiftNotFoundError,
        413: SwiftFullError,
        507: SwiftFullError,
    }.get(status, SwiftRefusedError)


def _retry_after(error: swiftclient.ClientException) -> float | None:
    """Return the seconds that an answer asks to wait, if it does."""
    header = (error.http_response_headers or {}).get("retry-after")
    return retry_after_seconds(header, now=time.time())


def _is_worth_repeating(error: BaseException) -> bool:
    """Whether to try again here; what takes longer is the job's retry."""
    return (
        isinstance(error, SwiftUnavailableError)
        and (error.retry_after or 0) <= _LONGEST_PAUSE_SECONDS
    )


_growing = wait_exponential_jitter(
    multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS, jitter=_FIRST_PAUSE_SECONDS
)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, SwiftError) else None
    return max(asked or 0.0, _growing(state))
