"""The HTTP side of the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response

from headrace_common.web import Authenticator, create_app
from headrace_results.artifacts import artifacts_router
from headrace_results.jobs import jobs_router
from headrace_results.process import ResultsProcess
from headrace_results.settings import ResultsSettings
from headrace_results.stream import NothingFollowsError, stream_router
from headrace_results.webhook import webhook_router


def build_app(settings: ResultsSettings) -> FastAPI:
    """Make the app; it connects to nothing before its lifespan begins."""
    process = ResultsProcess(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with process.running(app.state.stopping):
            yield

    app = create_app(
        settings,
        service="results",
        description="Takes the answers of analysis servers in, shows jobs, and streams their "
        "progress.",
        alive=process.alive(),
        ready=process.ready(),
        lifespan=lifespan,
    )
    app.state.authenticator = Authenticator(
        process.database, legacy_open=settings.legacy_open_endpoints
    )
    app.add_exception_handler(NothingFollowsError, _nothing_follows)
    app.include_router(webhook_router(process.receiver, urlsplit(settings.webhook_url).path or "/"))
    app.include_router(jobs_router(process.database))
    app.include_router(artifacts_router(process.database, process.artifacts))
    app.include_router(stream_router(process.streams))
    return app


async def _nothing_follows(_request: Request, _error: Exception) -> Response:
    return Response(status_code=204)
