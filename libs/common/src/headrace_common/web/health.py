"""Health: alive (restart me if not), ready (send me traffic if so), and metrics."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

log = structlog.get_logger()

#: Of liveness and metrics, for themselves: a probe and a scrape at a time, and one more of each.
_THREADS: Final = 4

Status = Literal["ok", "degraded", "unavailable", "stopping"]


@dataclass(frozen=True)
class Check:
    """Something a service needs, or a part of it that must be alive.

    Attributes:
        probe: raises when it is not well; a text that it returns is told to everybody.
        required: whether the service cannot take traffic without it.
    """

    name: str
    probe: Callable[[], object]
    required: bool = True


class CheckView(BaseModel):
    """How one check went."""

    ok: bool
    required: bool
    seconds: float
    error: str | None = None
    detail: str | None = Field(default=None, description="What it says of itself")


class HealthView(BaseModel):
    """How a service is."""

    status: Status = Field(
        description="degraded: works, without something; stopping: send it nothing more"
    )
    service: str
    checks: dict[str, CheckView]


class LiveView(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    service: str


def health_router(
    service: str,
    *,
    alive: Sequence[Check],
    ready: Sequence[Check],
    json_metrics: Callable[[], Mapping[str, Any]] | None = None,
) -> APIRouter:
    """Make `/health/live`, `/health/ready`, `/health` and `/metrics`.

    Args:
        service: name that the answers carry.
        alive: parts of this process (threads, loops) without which it should be restarted.
        ready: those, and the servers it needs.
        json_metrics: what `/metrics` answers a client that asks for `application/json`.
    """
    router = APIRouter(tags=["health"])
    # Not those that requests wait for the database in: a process whose threads are all taken is
    # busy, and must neither be restarted for it nor drop out of sight.
    aside = CapacityLimiter(_THREADS)

    @router.get("/health/live", response_model=LiveView, responses={503: {"model": HealthView}})
    async def live() -> Any:
        """Whether the process works; it should be restarted if not."""
        view = await to_thread.run_sync(_run, service, alive, limiter=aside)
        if view.status == "ok":
            return LiveView(service=service)
        return JSONResponse(view.model_dump(), 503)

    @router.get("/health/ready", responses={503: {"model": HealthView}})
    @router.get("/health", responses={503: {"model": HealthView}})
    def readiness(request: Request, response: Response) -> HealthView:
        """Whether the process can take traffic, and how all that it needs is."""
        view = _run(service, [*alive, *ready])
        if request.app.state.stopping.is_set():
            view.status = "stopping"
        if view.status in {"unavailable", "stopping"}:
            response.status_code = 503
        return view

    @router.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        """Metrics in Prometheus' format, or as JSON where the service has that and it is asked."""
        if json_metrics is not None and _asks_for_json(request.headers.get("accept", "")):
            counted = await to_thread.run_sync(json_metrics, limiter=aside)
            return JSONResponse(counted, headers={"Vary": "Accept"})
        text = await to_thread.run_sync(generate_latest, limiter=aside)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return router


def _asks_for_json(accept: str) -> bool:
    """Whether an Accept header names JSON; Prometheus names its own formats, and `*/*` last."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "application/json" in kinds


def _run(service: str, checks: Sequence[Check]) -> HealthView:
    views = {check.name: _probe(check) for check in checks}
    if any(view.required and not view.ok for view in views.values()):
        status: Status = "unavailable"
    else:
        status = "ok" if all(view.ok for view in views.values()) else "degraded"
    return HealthView(status=status, service=service, checks=views)


def _probe(check: Check) -> CheckView:
    started = time.perf_counter()
    error: str | None = None
    told: object = None
    try:
        told = check.probe()
    except Exception as failure:  # noqa: BLE001 - whatever it raises is the answer
        # Only the kind goes out: health is open to all, and messages may name hosts and users.
        error = type(failure).__name__
        log.warning("health.check_failed", check=check.name, error=str(failure)[:500])
    seconds = round(time.perf_counter() - started, 4)
    return CheckView(
        ok=error is None,
        required=check.required,
        seconds=seconds,
        error=error,
        detail=told if isinstance(told, str) else None,
    )
