"""Running an app: uvicorn with our logs, and a stop that fails no client."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
import uvicorn
from fastapi import FastAPI

from headrace_common.loading import loading
from headrace_common.settings import ProcessSettings
from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.telemetry.build import tell_build
from headrace_common.web.draining import ClosingAnswers

log = structlog.get_logger()

#: Between two looks whether the last connection is closed; uvicorn itself looks as often.
_LOOK_SECONDS: Final = 0.1

Settings = TypeVar("Settings", bound=ProcessSettings)


class _Server(uvicorn.Server):
    """Lets its clients go before it closes anything."""

    def __init__(
        self, config: uvicorn.Config, stopping: asyncio.Event, *, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._drain_seconds = drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await self._drain()
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        """Serve on until no connection is left, for DRAIN_SECONDS at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_seconds
        log.info("process.draining", connections=len(self.server_state.connections))
        # uvicorn has no event for any of it.
        while self.server_state.connections and not self.force_exit and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        log.info("process.drained", connections=len(self.server_state.connections))


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
    """Serve `app`, made by `create_app`, on HOST:PORT until SIGTERM or SIGINT.

    When the stop begins, `app.state.stopping` is set, so that long-lived responses can end by
    themselves, and readiness becomes 503. For DRAIN_SECONDS at most requests are served as
    before, and each answer ends its connection. Then the port is closed, and what is under way
    gets SHUTDOWN_GRACE_SECONDS to finish.
    """
    stopping: asyncio.Event = app.state.stopping
    config = uvicorn.Config(
        ClosingAnswers(app, stopping),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=int(settings.shutdown_grace_seconds),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # After its graceful stop uvicorn raises the signal again, for whoever had it before.
        # Nobody had, and a stop in good order is no death by signal.
        signal.signal(number, lambda *_: None)
    log.info("process.starting", host=settings.host, port=settings.port)
    _Server(config, stopping, drain_seconds=settings.drain_seconds).run()
    log.info("process.stopped")
