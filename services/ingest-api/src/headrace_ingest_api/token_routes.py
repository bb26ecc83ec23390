"""The routes of tokens and of their reference files (A2)."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from headrace_common.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RequestTimeoutError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
)
from headrace_common.keys import Principal, Scope
from headrace_common.settings import S3Settings
from headrace_common.storage import allowed_location
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api import tokens
from headrace_ingest_api.body import ClientGoneError, Patience, receive
from headrace_ingest_api.objects import storage_errors
from headrace_ingest_api.references import ReferenceKind, check_reference
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.tokens import NewToken, TokenChanges, TokenView
from headrace_ingest_api.uploads import CLIENT_CLOSED_REQUEST

MAX_PAGE: Final = 200

_Reader = Annotated[Principal, Depends(requires(Scope.TOKENS_READ))]
_Writer = Annotated[Principal, Depends(requires(Scope.TOKENS_WRITE))]


class TokenList(BaseModel):
    """A page of tokens, newest first."""

    tokens: list[TokenView]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null: none")


def tokens_router(resources: Resources) -> APIRouter:
    """Make the routes of tokens."""
    router = APIRouter(tags=["tokens"])
    database = resources.database

    @router.post(
        "/tokens",
        status_code=201,
        responses=responses(ForbiddenError, ConflictError, UnprocessableError),
    )
    def create_token(new: NewToken, _caller: _Writer) -> TokenView:
        """Create a token."""
        _check_urls(new, resources.settings)
        return tokens.create_token(database, new)

    @router.get("/tokens", responses=responses(BadRequestError, ForbiddenError))
    def list_tokens(
        _caller: _Reader,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[str | None, Query(max_length=500)] = None,
    ) -> TokenList:
        """List tokens, newest first."""
        page = tokens.list_tokens(database, limit=limit, cursor=cursor)
        return TokenList(tokens=page.tokens, next_cursor=page.next_cursor)

    @router.get("/tokens/{token_id}", responses=responses(ForbiddenError, NotFoundError))
    def read_token(token_id: str, _caller: _Reader) -> TokenView:
        """Read a token."""
        return tokens.find_token(database, token_id)

    @router.patch(
        "/tokens/{token_id}",
        responses=responses(ForbiddenError, NotFoundError, UnprocessableError),
    )
    def change_token(token_id: str, changes: TokenChanges, _caller: _Writer) -> TokenView:
        """Change a token: what is absent stays, what is null goes, metadata is merged."""
        _check_urls(changes, resources.settings)
        return tokens.change_token(database, token_id, changes)

    @router.delete(
        "/tokens/{token_id}", status_code=204, responses=responses(ForbiddenError, NotFoundError)
    )
    def delete_token(token_id: str, _caller: _Writer) -> None:
        """Delete a token; its jobs go on."""
        tokens.delete_token(database, token_id)

    return router


def references_router(resources: Resources) -> APIRouter:
    """Make the routes that take reference files in."""
    router = APIRouter(tags=["tokens"])
    problems = responses(
        ForbiddenError,
        NotFoundError,
        RequestTimeoutError,
        TooLargeError,
        UnprocessableError,
        UnavailableError,
    )

    @router.put(
        "/tokens/{token_id}/textgrid",
        response_model=TokenView,
        responses=problems,
        openapi_extra=_raw_body("text/plain", "A Praat TextGrid"),
    )
    async def put_textgrid(request: Request, token_id: str, _caller: _Writer) -> Any:
        """Store the token's reference alignment; the body is the TextGrid itself."""
        return await _put_reference(resources, request, token_id, ReferenceKind.TEXTGRID)

    @router.put(
        "/tokens/{token_id}/pitch",
        response_model=TokenView,
        responses=problems,
        openapi_extra=_raw_body("application/json", "The reference pitch"),
    )
    async def put_pitch(request: Request, token_id: str, _caller: _Writer) -> Any:
        """Store the token's reference pitch; the body is the JSON itself."""
        return await _put_reference(resources, request, token_id, ReferenceKind.PITCH)

    return router


async def _put_reference(
    resources: Resources, request: Request, token_id: str, kind: ReferenceKind
) -> TokenView | Response:
    settings = resources.settings
    token = await run_in_threadpool(tokens.find_token, resources.database, token_id)
    patience = Patience(settings.upload_stall_seconds, settings.upload_min_bytes_per_second)
    most = settings.max_reference_bytes
    refusal = TooLargeError(f"a reference file may have {most} bytes at most")
    body = receive(request, patience=patience, most_bytes=most, refusal=refusal)
    try:
        content = b"".join([chunk async for chunk in body])
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    reference = await run_in_threadpool(check_reference, kind, content)
    location = reference.location(settings.s3_bucket, token.id)
    with storage_errors("put reference"):
        await resources.s3_threads.run(
            resources.s3.put_object,
            Bucket=location.bucket,
            Key=location.key,
            Body=content,
            ContentType=reference.media_type,
        )
    changes = TokenChanges.model_validate({f"s3_{kind}_url": location.url})
    return await run_in_threadpool(tokens.change_token, resources.database, token.id, changes)


def _check_urls(changes: TokenChanges, settings: S3Settings) -> None:
    """Check that every URL given lies in a bucket that may be used.

    Raises:
        UnprocessableError: one does not.
    """
    for url in (changes.s3_textgrid_url, changes.s3_pitch_url):
        if url is not None:
            allowed_location(url, settings)


def _raw_body(media_type: str, description: str) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "description": description,
            "content": {media_type: {"schema": {"type": "string", "format": "binary"}}},
        }
    }
