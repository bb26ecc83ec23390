"""The routes of the registry of cameras."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from headrace_common.audit import actor_of
from headrace_common.contracts.cctv import CameraId
from headrace_common.errors import BadRequestError
from headrace_common.jobs.cameras import UnknownCameraError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.registry import (
    CameraChanges,
    CameraExistsError,
    CameraView,
    NewCamera,
    Registry,
)

MAX_PAGE: Final = 200

_Reader = Annotated[Principal, Depends(requires(Scope.JOBS_READ))]
_Writer = Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))]


class CameraList(BaseModel):
    """A page of cameras, newest first."""

    cameras: list[CameraView]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: none")


def registry_router(registry: Registry) -> APIRouter:
    """Make the routes of registered cameras."""
    router = APIRouter(tags=["cameras"])

    @router.post("/cameras", status_code=201, responses=responses(CameraExistsError))
    def register_camera(new: NewCamera, caller: _Writer) -> CameraView:
        """Register a camera, so that jobs and schedules can name it."""
        return registry.add(new, actor=actor_of(caller), key_id=caller.key_id)

    @router.get("/cameras", responses=responses(BadRequestError))
    def list_cameras(
        _caller: _Reader,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[str | None, Query(max_length=2_000)] = None,
    ) -> CameraList:
        """List cameras, newest first."""
        page = registry.page(limit=limit, cursor=cursor)
        return CameraList(cameras=page.cameras, next_cursor=page.next_cursor)

    @router.get("/cameras/{name}", responses=responses(UnknownCameraError))
    def read_camera(name: CameraId, _caller: _Reader) -> CameraView:
        """Read a camera."""
        return registry.find(name)

    @router.patch("/cameras/{name}", responses=responses(UnknownCameraError))
    def change_camera(name: CameraId, changes: CameraChanges, caller: _Writer) -> CameraView:
        """Change a camera: what is absent stays, what is null goes. Its jobs stay as they are."""
        return registry.change(name, changes, actor=actor_of(caller))

    @router.delete("/cameras/{name}", status_code=204, responses=responses(UnknownCameraError))
    def remove_camera(name: CameraId, caller: _Writer) -> None:
        """Remove a camera. Its jobs stay; schedules that name it fail until it is back."""
        registry.remove(name, actor=actor_of(caller))

    return router
