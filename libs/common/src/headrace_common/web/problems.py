"""Errors over HTTP: problem+json (RFC 9457), with a stable code and never a secret."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from botocore.exceptions import BotoCoreError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from headrace_common.errors import (
    ForbiddenError,
    HeadraceError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnprocessableError,
)

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"


class Problem(BaseModel):
    """A problem document (RFC 9457). Further members tell more of single problems."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no job '0199-...'"])
    code: str = Field(description="Stable, for programs", examples=["not_found"])


def responses(*errors: type[HeadraceError]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route that may raise `errors`, for OpenAPI."""
    documented: dict[int | str, dict[str, Any]] = {}
    documented_errors: tuple[type[HeadraceError], ...] = (
        UnauthorizedError,
        ForbiddenError,
        UnprocessableError,
        *errors,
    )
    for error in documented_errors:
        example = Problem(
            title=error.title, status=error.status, detail="what happened", code=error.code
        )
        documented[error.status] = {
            "model": Problem,
            "description": error.title,
            "content": {MEDIA_TYPE: {"example": example.model_dump()}},
        }
    return documented


def problem_response(error: HeadraceError) -> JSONResponse:
    """Render `error`."""
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        **{key: value for key, value in error.extra.items() if value is not None},
    )
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return _render(problem, headers)


def install(app: FastAPI) -> None:
    """Render every error of `app` as a problem."""

    async def expected(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HeadraceError)  # noqa: S101 - what it is registered for
        return problem_response(error)

    async def away(_request: Request, error: Exception) -> JSONResponse:
        log.warning("http.dependency_away", error=type(error).__name__, detail=str(error)[:500])
        return problem_response(
            UnavailableError("a server that this service needs does not answer; try again")
        )

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
        faults = [
            {
                "field": ".".join(str(part) for part in fault["loc"]),
                "message": fault["msg"].removeprefix("Value error, "),
            }
            for fault in error.errors()
        ]
        detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        return _render(
            Problem(
                title="Invalid request",
                status=422,
                detail=detail,
                code="invalid_request",
                errors=faults,
            )
        )

    async def plain(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - as above
        if error.status_code == TooLargeError.status:
            return problem_response(TooLargeError(error.detail))
        title = HTTPStatus(error.status_code).phrase
        code = title.lower().replace(" ", "_").replace("-", "_")
        problem = Problem(title=title, status=error.status_code, detail=error.detail, code=code)
        return _render(problem, error.headers)

    app.add_exception_handler(HeadraceError, expected)
    for failure in (OperationalError, InterfaceError, PoolTimeoutError, BotoCoreError):
        app.add_exception_handler(failure, away)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)


def unexpected_problem() -> JSONResponse:
    """Return what is said of an error that nobody expected; the middleware logs it."""
    return _render(
        Problem(
            title="Internal error",
            status=500,
            detail="an unexpected error; it is logged under the request's trace id",
            code="internal_error",
        )
    )


def _render(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(
        problem.model_dump(), problem.status, dict(headers or {}), media_type=MEDIA_TYPE
    )
