"""The picture in a request: the body itself, or the field `file` of a form. Bounded."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from headrace_common.errors import (
    MalformedFormError,
    MissingFileError,
    RequestTimeoutError,
    UnsupportedMediaError,
)
from headrace_common.web import own_body_limit
from headrace_gpu_preprocessor.on_demand.errors import (
    ImageTooLargeError,
)

FILE_FIELD: Final = "file"
_MAX_FIELDS: Final = 10
#: Boundaries, headers and small fields around the file.
_ENVELOPE_BYTES: Final = 64 * 1024
_RAW_KINDS: Final = ("image/", "application/octet-stream")


async def read_picture(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """Receive a picture.

    Args:
        request: whose body has not been touched yet.
        max_bytes: that the picture may have.
        seconds: that the client may take.

    Raises:
        UnsupportedMediaError: the Content-Type is neither a picture's nor a form's.
        ImageTooLargeError: more bytes.
        RequestTimeoutError: it takes longer.
        MalformedFormError: it is no form, or ends too early.
        MissingFileError: there is no picture in it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and not kind.startswith(_RAW_KINDS):
        raise UnsupportedMediaError(
            "send a picture as the body (image/jpeg), or as the field 'file' of a form"
        )
    own_body_limit(request)
    body = await _receive(request, max_bytes + _ENVELOPE_BYTES * form, seconds)
    picture = await _from_form(request, body) if form else body
    if not picture:
        raise MissingFileError("the picture has no bytes")
    if len(picture) > max_bytes:
        raise _too_large(max_bytes)
    return picture


async def _receive(request: Request, most_bytes: int, seconds: float) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise _too_large(most_bytes)
    received = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                received += chunk
                if len(received) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError:
        raise RequestTimeoutError(f"the body took longer than {seconds:g} seconds") from None
    except ClientDisconnect as error:
        # Nobody is left to read it; it is an answer all the same, for the log.
        raise MalformedFormError("the client left before its body was whole") from error
    return bytes(received)


async def _from_form(request: Request, body: bytes) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=1, max_fields=_MAX_FIELDS)
    # It is in memory already, and bounded: no detour by a temporary file.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        reason = getattr(error, "message", "the Content-Type names no boundary")
        raise MalformedFormError(f"not a multipart form: {reason}") from error
    try:
        found = form.get(FILE_FIELD)
        if not isinstance(found, UploadFile):
            raise MissingFileError(f"the form has no file in the field {FILE_FIELD!r}")
        return await found.read()
    finally:
        await form.close()


def _too_large(most_bytes: int) -> ImageTooLargeError:
    return ImageTooLargeError(f"the picture has more than {most_bytes} bytes")
