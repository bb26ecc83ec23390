"""Running an app: uvicorn with our logs, and streams that know when the server stops."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import TypeVar

import structlog
import uvicorn
from fastapi import FastAPI

from headrace_common.loading import loading
from headrace_common.settings import ProcessSettings
from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.telemetry.build import tell_build

log = structlog.get_logger()

Settings = TypeVar("Settings", bound=ProcessSettings)


class _Server(uvicorn.Server):
    """Tells open streams to end before it waits for them."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


def run_service(service: str, settings: Settings, build_app: Callable[[Settings], FastAPI]) -> None:
    """Run a service until SIGTERM or SIGINT: its logs, its traces, its app.

    Args:
        service: short name, as logs and traces carry it.
        settings: as the environment gave them.
        build_app: makes the app; called once logs work.
    """
    configure_logging(service=service, level=settings.log_level, log_format=settings.log_format)
    configure_tracing(service=service)
    tell_build(settings.build_revision)
    with loading():
        app = build_app(settings)
    serve(app, settings)


def serve(app: FastAPI, settings: ProcessSettings) -> None:
    """Serve `app` on HOST:PORT until SIGTERM or SIGINT, then finish what is under way.

    `app.state.stopping` is an `asyncio.Event` that is set when the stop begins, so that
    long-lived responses can end by themselves.
    """
    app.state.stopping = asyncio.Event()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_grace_seconds),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # After its graceful stop uvicorn raises the signal again, for whoever had it before.
        # Nobody had, and a stop in good order is no death by signal.
        signal.signal(number, lambda *_: None)
    log.info("process.starting", host=settings.host, port=settings.port)
    _Server(config, app.state.stopping).run()
    log.info("process.stopped")
