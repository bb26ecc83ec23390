"""Runtime control (V5, V7): what the worker does, how much at a time, and whether at all."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from headrace_common.keys import Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_gpu_preprocessor.stream import StreamConsumer, StreamSnapshot
from headrace_gpu_preprocessor.stream.settings import MOST_CONCURRENCY

Concurrency = Annotated[
    int, Query(ge=1, le=MOST_CONCURRENCY, description="Jobs at a time", examples=[2])
]
#: The old worker's own endpoints, which a trusted network may use without a key for a while.
_READER: Final = [Depends(requires(Scope.JOBS_READ, legacy_endpoint=True))]
_WRITER: Final = [Depends(requires(Scope.JOBS_WRITE, legacy_endpoint=True))]


class ConcurrencyView(BaseModel):
    """A change of how many jobs may run at a time."""

    concurrency: int
    before: int


class PausedView(BaseModel):
    """Whether new entries are taken."""

    paused: bool


class WorkerStatus(StreamSnapshot):
    """What this process does at the moment."""

    status: str = Field(
        description="running, paused, stopping, or holding: too little memory, or `waiting_for`"
    )
    started_at: datetime


def status_word(snapshot: StreamSnapshot) -> str:
    """Say in one word what the worker does."""
    if snapshot.stopping:
        return "stopping"
    if snapshot.paused:
        return "paused"
    held = snapshot.admission.holding or snapshot.waiting_for is not None
    return "holding" if held else "running"


def control_router(consumer: StreamConsumer, *, started_at: datetime) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["worker"])
    documented: dict[str, Any] = {"responses": responses()}

    @router.get("/worker/status", dependencies=_READER, **documented)
    def read_status() -> WorkerStatus:
        """Tell what each slot does, and how the group and the memory are."""
        snapshot = consumer.snapshot()
        return WorkerStatus(**dict(snapshot), status=status_word(snapshot), started_at=started_at)

    @router.post("/control/concurrency", dependencies=_WRITER, **documented)
    def set_concurrency(n: Concurrency) -> ConcurrencyView:
        """Change how many jobs run at a time. What runs beyond a lower number finishes."""
        before = consumer.set_concurrency(n)
        return ConcurrencyView(concurrency=n, before=before)

    @router.post("/control/pause", dependencies=_WRITER, **documented)
    def pause() -> PausedView:
        """Take no new entries; what runs finishes."""
        consumer.pause()
        return PausedView(paused=True)

    @router.post("/control/resume", dependencies=_WRITER, **documented)
    def resume() -> PausedView:
        """Take entries again."""
        consumer.resume()
        return PausedView(paused=False)

    return router
