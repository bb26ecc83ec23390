"""`POST /cctv/{cctv_id}/preprocess`: look at a camera."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationInfo, field_validator
from uuid_utils.compat import uuid7

from headrace_common.contracts.cctv import CameraId, ClipSeconds
from headrace_common.contracts.regions import RoadRegion
from headrace_common.errors import BadRequestError, ConflictError, UnavailableError
from headrace_common.jobs.cameras import UnknownCameraError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.camera_jobs import CameraAnswer, CameraJobs, CameraWish
from headrace_ingest_api.idempotency import check_key
from headrace_ingest_api.metrics import CAMERA_REQUESTS
from headrace_ingest_api.registry import CameraUrl

_ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": CameraAnswer,
        "description": "The job is accepted",
        "headers": {
            "Idempotent-Replayed": {
                "description": "`true` when this answers an earlier request with the same key",
                "schema": {"type": "string"},
            }
        },
    },
    **responses(BadRequestError, UnknownCameraError, ConflictError, UnavailableError),
}


class CameraRequest(BaseModel):
    """Which clip of the camera. Of one that is registered, nothing need be said."""

    hls: CameraUrl | None = Field(
        default=None,
        description="HLS playlist, http:// or https://; if left out, the camera is looked up in "
        "the registry, and what is left out beside it is taken from there",
        examples=["https://cam/1/live.m3u8"],
    )
    sec: ClipSeconds | None = Field(
        default=None,
        validate_default=True,
        description="Seconds to read; needed where `hls` is given",
        examples=[20],
    )
    region: RoadRegion | None = None
    job_id: CameraId | None = Field(
        default=None, description="Of the job; made if left out. One that exists is 409"
    )

    @field_validator("sec")
    @classmethod
    def _with_url(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        if seconds is None and info.data.get("hls") is not None:
            raise ValueError("must be given with hls")
        return seconds


def cameras_router(jobs: CameraJobs) -> APIRouter:
    """Make the route of camera jobs."""
    router = APIRouter(tags=["cameras"])

    @router.post(
        "/cctv/{cctv_id}/preprocess",
        status_code=202,
        response_model=CameraAnswer,
        responses=_ACCEPTED,
    )
    def preprocess(
        cctv_id: CameraId,
        caller: Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))],
        asked: CameraRequest | None = None,
        idempotency_key: Annotated[
            str | None,
            Header(description="1 to 255 printable characters: repeat a request safely with it"),
        ] = None,
    ) -> JSONResponse:
        """Read a clip of a camera, extract the road, and look for damage on it.

        The answer comes once the job is accepted; follow it by its id. While Redis is away it is
        `queuing`, and goes onto the stream by itself later.
        """
        asked = asked or CameraRequest()
        wish = CameraWish(
            cctv_id=cctv_id,
            hls=asked.hls,
            seconds=asked.sec,
            region=asked.region,
            job_id=asked.job_id,
            idempotency_key=None if idempotency_key is None else check_key(idempotency_key),
            key_id=caller.key_id,
        )
        answer, replayed = jobs.take(wish, asked.job_id or str(uuid7()))
        CAMERA_REQUESTS.labels(outcome="replayed" if replayed else answer.status.value).inc()
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        return JSONResponse(answer.model_dump(mode="json"), status_code=202, headers=headers)

    return router
