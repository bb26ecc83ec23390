"""What an upload asks for and what becomes of it: decisions that need no server."""

import asyncio
from dataclasses import dataclass, field

from headrace_common.contracts.lanes import Lane
from headrace_common.errors import HeadraceError
from headrace_common.jobs import Failure
from headrace_ingest_api.begin import Begin
from headrace_ingest_api.body import ClientGoneError
from headrace_ingest_api.errors import EmptyFileError, InvalidPriorityError, UnsupportedAudioError
from headrace_ingest_api.idempotency import Claim
from headrace_ingest_api.recognition import Container, recognise


@dataclass(frozen=True)
class UploadWish:
    """What a client asks for beside the file."""

    token_id: str
    priority: Lane | None
    idempotency_key: str | None
    key_id: str | None
    begin: Begin = field(default_factory=Begin)

    def claim(self, job_id: str) -> Claim | None:
        """Return the claim on the idempotency key, if there is one."""
        if self.idempotency_key is None:
            return None
        return Claim(f"{self.key_id or 'anonymous'} upload-audio", self.idempotency_key, job_id)


def recognised(head: bytes) -> Container:
    """Return what kind of recording begins with `head`.

    Raises:
        EmptyFileError: nothing does.
        UnsupportedAudioError: none that is taken.
    """
    if not head:
        raise EmptyFileError("the file is empty")
    container = recognise(head)
    if container is None:
        raise UnsupportedAudioError(
            "send WAV, FLAC, OGG, MP3, M4A, AAC or WebM; this is none of them"
        )
    return container


def choose_lane(query: Lane | None, fields: dict[str, str]) -> Lane:
    """Return the lane that the query or the form asks for.

    Raises:
        InvalidPriorityError: the form's is none, or the two differ.
    """
    text = fields.get("priority", "").strip()
    if not text:
        return query or Lane.NORMAL
    if text not in set(Lane):
        raise InvalidPriorityError("priority is one of high, normal, low")
    lane = Lane(text)
    if query not in (None, lane):
        raise InvalidPriorityError(f"the query says priority {query}, the form says {lane}")
    return lane


def failure_of(error: BaseException) -> Failure:
    """Return what a job says of the error that ended its upload."""
    match error:
        case HeadraceError():
            return Failure(error.code, f"Upload failed: {error.detail}")
        case ClientGoneError():
            return Failure("client_disconnected", "The client disconnected during the upload")
        case asyncio.CancelledError():
            return Failure("upload_interrupted", "The service stopped during the upload")
        case _:
            return Failure("upload_failed", "The upload failed by an internal error")
