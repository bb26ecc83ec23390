"""The FastAPI app that every service starts from."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from headrace_common.settings import ProcessSettings
from headrace_common.telemetry.trace import is_recording
from headrace_common.web import problems
from headrace_common.web.body_limit import BodyLimit
from headrace_common.web.health import Check, health_router
from headrace_common.web.middleware import RequestContext

#: JSON bodies are small; a route that streams lifts it (`own_body_limit`) and has its own.
MAX_JSON_BODY_BYTES: Final = 1024 * 1024


def create_app(
    settings: ProcessSettings,
    *,
    service: str,
    description: str,
    alive: Sequence[Check] = (),
    ready: Sequence[Check] = (),
    json_metrics: Callable[[], Mapping[str, Any]] | None = None,
    **options: Any,
) -> FastAPI:
    """Make an app with problem+json errors, health, metrics, access log and closed CORS.

    Its `state.stopping` is an `asyncio.Event` that `web.serve` sets when the stop begins.

    Args:
        settings: of the process.
        service: short name, for logs and health.
        description: first paragraph of the OpenAPI page.
        alive: parts of the process that must work, else it should be restarted.
        ready: servers that it needs to take traffic.
        json_metrics: what `/metrics` answers a client that asks for `application/json`.
        options: more of FastAPI's own, such as `lifespan`.
    """
    # The documentation page comes with its scripts, instead of loading them from elsewhere.
    app = FastAPIOffline(
        title=f"Headrace {service}",
        description=description,
        version="1",
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "exclude": lambda _: not is_recording(),  # `RequestContext` goes on with the trace then
        },
        **options,
    )
    app.state.stopping = asyncio.Event()
    problems.install(app)
    app.include_router(health_router(service, alive=alive, ready=ready, json_metrics=json_metrics))
    if settings.cors_allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_allow_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-trace-id", "retry-after"],
        )
    app.add_middleware(BodyLimit, most_bytes=MAX_JSON_BODY_BYTES)
    app.add_middleware(RequestContext)
    return app
