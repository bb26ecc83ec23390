"""`POST /tokens/{token_id}/upload-audio` (A1)."""

from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.contracts.lanes import Lane
from headrace_common.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    HeadraceError,
    NotFoundError,
    RequestTimeoutError,
    UnavailableError,
)
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.answers import UploadAnswer
from headrace_ingest_api.begin import DELAY, DELAY_TEXT, RUN_AT, RUN_AT_TEXT, Begin
from headrace_ingest_api.body import ClientGoneError
from headrace_ingest_api.decisions import UploadWish
from headrace_ingest_api.errors import (
    BrokenAudioError,
    UnsupportedAudioError,
    UploadTooLargeError,
)
from headrace_ingest_api.idempotency import check_key
from headrace_ingest_api.intake import UploadIntake
from headrace_ingest_api.metrics import UPLOADS

log = structlog.get_logger()

#: nginx's status for a client that went away: nobody reads it but the log and the metric.
CLIENT_CLOSED_REQUEST: Final = 499

_SAME: Final = {"description": "The same as in the query; before or after the file"}
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "The recording: WAV, FLAC, OGG, MP3, M4A, AAC or WebM",
                        },
                        "priority": {
                            "type": "string",
                            "enum": [lane.value for lane in Lane],
                            "default": Lane.NORMAL.value,
                            "description": "The same as in the query; before or after the file",
                        },
                        RUN_AT: {"type": "string", "format": "date-time", **_SAME},
                        DELAY: {"type": "string", **_SAME},
                    },
                }
            }
        },
    }
}
_EXAMPLE: Final[dict[str, Any]] = {
    "message": "Recording stored and queued for analysis",
    "job_id": "0199a5c1-2f60-7cc3-98c4-dc0c0c07398f",
    "queue_message_id": "4b7de7f2-9d3b-4d55-a8f1-6c6d5b0f8a11",
    "rq_job_id": "4b7de7f2-9d3b-4d55-a8f1-6c6d5b0f8a11",
    "status": "queued",
    "priority": "normal",
    "queue_position": 1,
    "token_id": "mary",
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": UploadAnswer,
        "description": "The recording is stored and its job accepted",
        "content": {"application/json": {"example": _EXAMPLE}},
        "headers": {
            "Idempotent-Replayed": {
                "description": "`true` when this answers an earlier request with the same key",
                "schema": {"type": "string"},
            }
        },
    },
    **responses(
        BadRequestError,
        ForbiddenError,
        NotFoundError,
        RequestTimeoutError,
        ConflictError,
        UploadTooLargeError,
        UnsupportedAudioError,
        BrokenAudioError,
        UnavailableError,
    ),
}


def uploads_router(intake: UploadIntake) -> APIRouter:
    """Make the route of uploads."""
    router = APIRouter(tags=["uploads"])

    @router.post(
        "/tokens/{token_id}/upload-audio",
        response_model=UploadAnswer,
        responses=_RESPONSES,
        openapi_extra=_FORM,
    )
    async def upload_audio(
        request: Request,
        token_id: str,
        caller: Annotated[Principal, Depends(requires(Scope.JOBS_WRITE, legacy_endpoint=True))],
        priority: Annotated[Lane | None, Query(description="Lane; `normal` by default")] = None,
        run_at: Annotated[str | None, Query(description=RUN_AT_TEXT)] = None,
        delay: Annotated[str | None, Query(description=DELAY_TEXT)] = None,
        idempotency_key: Annotated[
            str | None,
            Header(description="1 to 255 printable characters: repeat a request safely with it"),
        ] = None,
    ) -> Response:
        """Upload a recording that imitates a token, and queue its analysis.

        The file is streamed to storage as it arrives. The answer comes as soon as the job is
        accepted; follow the job by its id. With `run_at` or `delay` the job is `scheduled`, and
        queued at its time.

        With an `Idempotency-Key` the same request may be repeated for a day: it is done once,
        and repetitions get the first answer.
        """
        wish = UploadWish(
            token_id=token_id,
            priority=priority,
            idempotency_key=None if idempotency_key is None else check_key(idempotency_key),
            key_id=caller.key_id,
            begin=Begin.read({RUN_AT: run_at or "", DELAY: delay or ""}),
        )
        return await _answered(intake, request, wish)

    return router


async def _answered(intake: UploadIntake, request: Request, wish: UploadWish) -> Response:
    """Take the upload, and count how it ended."""
    outcome = "internal_error"
    try:
        answer, replayed = await intake.take(request, wish)
        outcome = "replayed" if replayed else "accepted"
    except ClientGoneError:
        outcome = "client_disconnected"
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except HeadraceError as error:
        outcome = error.code
        raise
    except SQLAlchemyError:
        outcome = "database_error"
        raise
    finally:
        UPLOADS.labels(outcome=outcome).inc()
        log.info("upload.ended", outcome=outcome, token_id=wish.token_id)
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    return JSONResponse(answer.model_dump(mode="json"), headers=headers)
