"""`POST /cctv/{cctv_id}/preprocess`: look at a camera."""

from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, Field
from uuid_utils.compat import uuid7

from headrace_common.contracts.cctv import CameraId, ClipSeconds, StreamUrl
from headrace_common.errors import BadRequestError, ConflictError, UnavailableError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.camera_jobs import CameraAnswer, CameraJobs, CameraWish
from headrace_ingest_api.idempotency import check_key
from headrace_ingest_api.metrics import CAMERA_REQUESTS

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
    **responses(BadRequestError, ConflictError, UnavailableError),
}


def _with_host(url: str) -> str:
    """Check that a URL names a host, and a port only if it is one.

    Whether that host may be reached is decided where it is: its address may change until then.
    """
    parts = urlsplit(url)  # raises ValueError for half an IPv6 address
    if not parts.hostname or any(letter.isspace() for letter in url):
        raise ValueError("must name a host")
    if parts.port == 0:  # raises ValueError for one that is no number
        raise ValueError("must have a port above 0")
    return url


class CameraRequest(BaseModel):
    """Which clip of the camera."""

    hls: Annotated[StreamUrl, AfterValidator(_with_host)] = Field(
        description="HLS playlist, http:// or https://", examples=["https://cam/1/live.m3u8"]
    )
    sec: ClipSeconds = Field(description="Seconds to read", examples=[20])
    job_id: CameraId | None = Field(
        default=None, description="Of the job; made if left out. One that exists is 409"
    )


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
        asked: CameraRequest,
        caller: Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))],
        idempotency_key: Annotated[
            str | None,
            Header(description="1 to 255 printable characters: repeat a request safely with it"),
        ] = None,
    ) -> JSONResponse:
        """Read a clip of a camera, extract the road, and look for damage on it.

        The answer comes once the job is accepted; follow it by its id. While Redis is away it is
        `queuing`, and goes onto the stream by itself later.
        """
        wish = CameraWish(
            cctv_id=cctv_id,
            hls=asked.hls,
            seconds=asked.sec,
            job_id=asked.job_id,
            idempotency_key=None if idempotency_key is None else check_key(idempotency_key),
            key_id=caller.key_id,
        )
        answer, replayed = jobs.take(wish, asked.job_id or str(uuid7()))
        CAMERA_REQUESTS.labels(outcome="replayed" if replayed else answer.status.value).inc()
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        return JSONResponse(answer.model_dump(mode="json"), status_code=202, headers=headers)

    return router
