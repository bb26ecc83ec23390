"""The HTTP side of the service."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from fastapi import FastAPI

from headrace_common.web import Authenticator, create_app
from headrace_gpu_preprocessor.control import control_router
from headrace_gpu_preprocessor.on_demand import damage_detection_router
from headrace_gpu_preprocessor.process import PreprocessorProcess
from headrace_gpu_preprocessor.settings import PreprocessorSettings


def build_app(settings: PreprocessorSettings) -> FastAPI:
    """Make the app; it connects to nothing before its lifespan begins."""
    process = PreprocessorProcess(settings)
    started_at = datetime.now(UTC)

    def json_metrics() -> Mapping[str, Any]:
        """V7, to the letter."""
        return {
            "counters": process.consumer.json_counters(),
            "uptime_seconds": round((datetime.now(UTC) - started_at).total_seconds(), 1),
            "start_time": started_at.isoformat(),
        }

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(process.start)
        watch = asyncio.create_task(_stop_with(app.state.stopping, process))
        try:
            yield
        finally:
            watch.cancel()
            await to_thread.run_sync(process.stop)

    app = create_app(
        settings,
        service="gpu-preprocessor",
        description="Takes camera jobs off a Redis Stream, extracts the road without its traffic, "
        "looks for damage, and uploads what it found.",
        alive=process.alive(),
        ready=process.ready(),
        json_metrics=json_metrics,
        lifespan=lifespan,
    )
    app.state.authenticator = Authenticator(
        process.key_database, legacy_open=settings.legacy_open_endpoints
    )
    app.include_router(control_router(process.consumer, started_at=started_at))
    app.include_router(damage_detection_router(process.on_demand))
    return app


async def _stop_with(stopping: asyncio.Event, process: PreprocessorProcess) -> None:
    """Ask the process to stop as soon as the server does.

    The lifespan ends only after the last open request has: until then entries would be taken
    that nobody has the time to work on. Asking does not wait for anything.
    """
    await stopping.wait()
    process.ask_to_stop()
