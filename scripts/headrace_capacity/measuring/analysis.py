"""An analysis server that analyses nothing, so that what is left is the library's own cost.

`python -m headrace_capacity.measuring.analysis`. The token of a job says what it does: `r3-s0.6`
reports progress three times within 0.6 s and then that it is complete.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread
from fastapi import FastAPI, Request

from headrace_analysis import AnalysisServer, AnalysisSettings, AnalysisTask
from headrace_common.settings import ProcessSettings
from headrace_common.web import Check, create_app, run_service

_RESULT: Final = {"score": 83.8, "pitch": {"mean_hz": 182.4, "range_semitones": 7.1}}


class IdleSettings(ProcessSettings, AnalysisSettings):
    """A process that takes jobs."""

    shutdown_grace_seconds: float = 10


def token_name(reports: int, seconds: float) -> str:
    """Return the id of the token whose jobs report so often within so long."""
    return f"r{reports}-s{seconds:g}"


def behaviour(token_id: str) -> tuple[int, float]:
    """Return what a token's id says: progress reports, and seconds."""
    reports, _, seconds = token_id.partition("-")
    return int(reports.removeprefix("r")), float(seconds.removeprefix("s"))


def analyse(task: AnalysisTask) -> dict[str, object]:
    """Report and wait, as the token says."""
    reports, seconds = behaviour(task.request.token_id)
    for number in range(reports):
        task.progress(100 * (number + 1) / (reports + 1), "Analysing")
        _pass(task, seconds / reports)
    if not reports:
        _pass(task, seconds)
    return dict(_RESULT)


def _pass(task: AnalysisTask, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        task.check()
        time.sleep(min(left, 0.5))


def build(settings: IdleSettings) -> FastAPI:
    """Make the app; the worker runs for as long as it does."""
    server = AnalysisServer(analyse, settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        server.start()
        try:
            yield
        finally:
            await to_thread.run_sync(server.stop)

    app = create_app(
        settings,
        service="idle-analysis",
        description="Analyses nothing",
        alive=[Check("worker", server.check_alive)],
        ready=[Check("queue", server.check_ready)],
        lifespan=lifespan,
    )

    @app.post("/analyze", status_code=202)
    async def analyze(request: Request) -> dict[str, str]:
        taken = server.accept_signed(await request.body(), dict(request.headers))
        return {"job_id": taken.job_id, "status": "accepted"}

    return app


if __name__ == "__main__":
    run_service("idle-analysis", IdleSettings.load(), build)
