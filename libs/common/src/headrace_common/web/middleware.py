"""What surrounds each request: log context, one access event, and the duration metric.

Pure ASGI: Starlette's BaseHTTPMiddleware breaks streaming responses and their cancellation.
"""

import time
from collections.abc import Mapping
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_common.telemetry.metrics import HTTP_REQUESTS
from headrace_common.telemetry.trace import (
    continue_trace,
    gathering_facts,
    is_recording,
    trace_id,
)
from headrace_common.web.problems import unexpected_problem

log = structlog.get_logger()

#: Asked every few seconds by probes and scrapers; logging them would drown the rest.
_QUIET_PATHS: Final = ("/health", "/metrics")
_TRACE_HEADERS: Final = (b"traceparent", b"tracestate")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestContext:
    """Binds the trace id, answers it as `x-trace-id`, measures, and logs one access event."""

    def __init__(self, app: ASGIApp) -> None:
        """Surround `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if is_recording():
            await self._serve(scope, receive, send)
            return
        came = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _TRACE_HEADERS
        }
        with continue_trace(came, scope["method"], kind=SpanKind.SERVER):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status, current = time.perf_counter(), 500, trace_id()
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                if current:
                    message["headers"] = [
                        *message.get("headers", ()),
                        (b"x-trace-id", current.encode()),
                    ]
            await send(message)

        structlog.contextvars.clear_contextvars()
        with gathering_facts() as facts:
            try:
                await self._app(scope, receive, send_and_note)
            except Exception:
                # Here, where the log still knows the trace, and the answer can tell it.
                log.exception("http.failed", **facts)
                if has_begun:
                    raise
                await unexpected_problem()(scope, receive, send_and_note)
            finally:
                self._note(scope, status, time.perf_counter() - started, facts)

    @staticmethod
    def _note(scope: Scope, status: int, seconds: float, facts: Mapping[str, str]) -> None:
        # The template, not the path: ids in labels would grow without bound.
        route = getattr(scope.get("route"), "path", "unmatched")
        # Likewise: a client may send any word as its method.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        HTTP_REQUESTS.labels(method=method, route=route, status=status).observe(seconds)
        if not scope["path"].startswith(_QUIET_PATHS):
            log.info(
                "http.request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(seconds, 4),
                **facts,
            )
