"""Direct upload over HTTP (A14)."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse

from headrace_common.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
    UnprocessableError,
)
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.answers import UploadAnswer
from headrace_ingest_api.direct.completion import DirectCompletion
from headrace_ingest_api.direct.errors import PartsMissingError, TooManyDirectUploadsError
from headrace_ingest_api.direct.uploads import DirectUploads, DirectWish
from headrace_ingest_api.direct.wire import (
    CompletionWish,
    DirectUploadView,
    NewDirectUpload,
    OpenedDirectUpload,
    PartUrls,
    PartWishes,
)
from headrace_ingest_api.errors import (
    UnsupportedAudioError,
    UploadOvertakenError,
    UploadTooLargeError,
)
from headrace_ingest_api.idempotency import check_key

_Writer = Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))]
_Reader = Annotated[Principal, Depends(requires(Scope.JOBS_READ))]

_OPENED: Final[dict[int | str, dict[str, Any]]] = {
    201: {
        "model": OpenedDirectUpload,
        "description": "The upload is open: send its parts, then complete it",
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
        ConflictError,
        UploadTooLargeError,
        UnsupportedAudioError,
        UnprocessableError,
        TooManyDirectUploadsError,
        UnavailableError,
    ),
}
_ERRORS: Final = responses(
    ForbiddenError, NotFoundError, UploadOvertakenError, UnprocessableError, UnavailableError
)
_INCOMPLETE: Final = responses(
    ForbiddenError, NotFoundError, PartsMissingError, UnsupportedAudioError, UnavailableError
)


def direct_router(uploads: DirectUploads, completion: DirectCompletion) -> APIRouter:
    """Make the routes of direct uploads."""
    router = APIRouter(tags=["direct uploads"])

    @router.post(
        "/tokens/{token_id}/direct-uploads",
        status_code=201,
        response_model=OpenedDirectUpload,
        responses=_OPENED,
    )
    def open_upload(
        token_id: str,
        asked: NewDirectUpload,
        caller: _Writer,
        idempotency_key: Annotated[
            str | None,
            Header(description="1 to 255 printable characters: repeat a request safely with it"),
        ] = None,
    ) -> JSONResponse:
        """Begin to upload a recording straight to S3, for large files and bad connections.

        Put the parts to their URLs, in any order and several at a time; ask for further URLs;
        then complete the upload. The job waits in `uploading` until then, or until it expires.
        """
        wish = DirectWish(
            token_id=token_id,
            new=asked,
            idempotency_key=None if idempotency_key is None else check_key(idempotency_key),
            key_id=caller.key_id,
        )
        opened, replayed = uploads.open(wish)
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        return JSONResponse(opened.model_dump(mode="json"), status_code=201, headers=headers)

    @router.get("/direct-uploads/{job_id}", responses=_ERRORS)
    def show_upload(job_id: str, _caller: _Reader) -> DirectUploadView:
        """Show an upload, with the parts that S3 has and the numbers of those it has not."""
        return uploads.view(job_id)

    @router.post("/direct-uploads/{job_id}/parts", responses=_ERRORS)
    def sign_parts(job_id: str, asked: PartWishes, _caller: _Writer) -> PartUrls:
        """Get URLs of parts, for the first time or anew."""
        return PartUrls(urls=uploads.urls(job_id, asked.parts))

    @router.post("/direct-uploads/{job_id}/complete", responses=_INCOMPLETE)
    async def complete_upload(
        job_id: str, _caller: _Writer, asked: CompletionWish | None = None
    ) -> UploadAnswer:
        """Say that all parts are sent: the recording is checked, and its job queued.

        May be repeated, and is to be while there is no answer. The recording is read once to
        verify its SHA-256, which takes some seconds a gigabyte.
        """
        return await completion.complete(job_id, (asked or CompletionWish()).etags())

    @router.delete("/direct-uploads/{job_id}", responses=_ERRORS)
    def abort_upload(job_id: str, _caller: _Writer) -> DirectUploadView:
        """Give an upload up: its job is cancelled, and storage keeps nothing of it."""
        return uploads.abort(job_id)

    return router
