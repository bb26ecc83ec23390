"""The endpoints."""

import json
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from headrace_common.contracts.cctv import MAX_CLIP_SECONDS, StreamUrl
from headrace_common.contracts.regions import RegionError
from headrace_common.errors import MalformedFormError, RequestTimeoutError
from headrace_common.keys import Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_gpu_preprocessor.detection.labels import title_of
from headrace_gpu_preprocessor.detection.region import Region
from headrace_gpu_preprocessor.on_demand.accept import JPEG, wants_picture
from headrace_gpu_preprocessor.on_demand.body import FILE_FIELD, read_picture
from headrace_gpu_preprocessor.on_demand.errors import (
    BrokenImageError,
    BusyError,
    ImageTooLargeError,
    InvalidRegionError,
    UnsupportedImageError,
)
from headrace_gpu_preprocessor.on_demand.service import Finding, OnDemand, VideoOrder
from headrace_gpu_preprocessor.video.errors import VideoError

PREFIX: Final = "/api/v1/damage-detection"
_MAX_REGION_CHARS: Final = 50_000
_POLYGONS: Final = "Where the road is: polygons of points x, y from 0 to 1"

Polygons = list[list[list[float]]]
Format = Annotated[
    Literal["json", "jpeg"] | None,
    Query(description="What to answer; if not given, what the Accept header prefers"),
]


class ClassView(BaseModel):
    """One class of damage."""

    code: str
    title: str


class ModelView(BaseModel):
    """The model that looks."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    sha256: str = Field(description="Of its file")
    classes: list[ClassView]
    threshold: float = Field(description="Lowest score that counts")
    input_size: int = Field(description="Side in pixels at which it sees best")
    runtime: str


class DetectionView(BaseModel):
    """What was found."""

    analysis: dict[str, Any] = Field(description="As damage_analysis.json")
    clip: dict[str, Any] | None = Field(default=None, description="What was read of a video")
    background: dict[str, Any] | None = Field(
        default=None, description="How the road without traffic came out"
    )
    seconds: float = Field(description="That it took")


class VideoRequest(BaseModel):
    """A clip to look at."""

    model_config = ConfigDict(extra="forbid")

    url: StreamUrl = Field(description="Of an HLS playlist or a video file")
    sec: float | None = Field(default=None, gt=0, le=MAX_CLIP_SECONDS, description="Seconds of it")
    background: bool = Field(
        default=True, description="Take the traffic away first; false: look at one frame"
    )
    region: Polygons | None = Field(default=None, description=_POLYGONS)


_PICTURE: Final = {"schema": {"type": "string", "format": "binary"}}
_FORM: Final = {
    "schema": {
        "type": "object",
        "required": [FILE_FIELD],
        "properties": {FILE_FIELD: _PICTURE["schema"]},
    }
}
_IMAGE_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": _FORM,
            "image/jpeg": _PICTURE,
            "image/png": _PICTURE,
            "image/webp": _PICTURE,
        },
    }
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": DetectionView,
        "description": "What was found, or the picture with it drawn",
        "content": {JPEG: _PICTURE},
    }
}


def damage_detection_router(service: OnDemand) -> APIRouter:
    """Make `/api/v1/damage-detection/*`."""
    router = APIRouter(prefix=PREFIX, tags=["damage detection"])
    may_look = Depends(requires(Scope.JOBS_WRITE))

    @router.get("/model", dependencies=[Depends(requires(Scope.JOBS_READ))], responses=responses())
    def model() -> ModelView:
        """Tell which model looks, and what it can find."""
        info = service.detector.info
        return ModelView(
            name=info.name,
            sha256=info.sha256,
            classes=[ClassView(code=label, title=title_of(label)) for label in info.labels],
            threshold=info.threshold,
            input_size=info.best_size,
            runtime=info.runtime,
        )

    @router.post(
        "/image",
        dependencies=[may_look],
        openapi_extra=_IMAGE_BODY,
        responses={
            **responses(
                MalformedFormError,
                UnsupportedImageError,
                BrokenImageError,
                ImageTooLargeError,
                RequestTimeoutError,
                BusyError,
            ),
            **_ANSWERS,
        },
    )
    async def image(
        request: Request,
        accept: Annotated[str, Header()] = "",
        format: Format = None,  # noqa: A002 - the parameter's name on the wire
        region: Annotated[
            str | None, Query(max_length=_MAX_REGION_CHARS, description=f"{_POLYGONS}, as JSON")
        ] = None,
        *,
        tiles: Annotated[
            bool, Query(description="Look closer at parts of it besides; false for close-ups")
        ] = True,
    ) -> Response:
        """Find damage in a picture: JPEG, PNG or WebP, as the body or as a form's `file`."""
        picture = _picture_wanted(format, accept)

        async def work() -> Response:
            road = _region(_json(region))
            async with service.slots.inside():
                data = await read_picture(
                    request,
                    max_bytes=service.settings.on_demand_max_bytes,
                    seconds=service.settings.on_demand_receive_seconds,
                )
                return await service.run(
                    lambda: _response(service.image(data, road, tiles=tiles), picture=picture)
                )

        return await service.counted("image", work())

    @router.post(
        "/video",
        dependencies=[may_look],
        responses={**responses(VideoError, BusyError), **_ANSWERS},
    )
    async def video(
        wanted: VideoRequest,
        accept: Annotated[str, Header()] = "",
        format: Format = None,  # noqa: A002 - the parameter's name on the wire
    ) -> Response:
        """Find damage on the road of a clip: an HLS stream, or a video file."""
        picture = _picture_wanted(format, accept)

        async def work() -> Response:
            seconds = wanted.sec or service.settings.on_demand_seconds
            order = VideoOrder(wanted.url, seconds, wanted.background, _region(wanted.region))
            async with service.slots.inside():
                return await service.run(lambda: _response(service.video(order), picture=picture))

        return await service.counted("video", work())

    return router


def _picture_wanted(format_name: str | None, accept: str) -> bool:
    return format_name == "jpeg" if format_name else wants_picture(accept)


def _json(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRegionError("the region is not JSON") from error


def _region(value: object) -> Region | None:
    if value is None:
        return None
    try:
        return Region.parse(value)
    except RegionError as error:
        raise InvalidRegionError(f"the region {error}") from error


def _response(finding: Finding, *, picture: bool) -> Response:
    """Make the answer. Blocking: it may draw."""
    headers = {"Vary": "Accept"}
    if picture:
        return Response(finding.jpeg(), media_type=JPEG, headers=headers)
    view = DetectionView(
        analysis=finding.analysis.as_json(),
        clip=finding.clip,
        background=finding.background,
        seconds=finding.seconds,
    )
    return JSONResponse(view.model_dump(mode="json"), headers=headers)
