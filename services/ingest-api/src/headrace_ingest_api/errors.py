"""What can be wrong with an upload, each with a stable code of its own."""

from headrace_common.errors import (
    ConflictError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    UnsupportedMediaError,
)


class EmptyFileError(UnprocessableError):
    """The file has no bytes."""

    code = "empty_file"
    title = "Empty file"


class InvalidPriorityError(UnprocessableError):
    """The priority is none of the three, or named twice and differently."""

    code = "invalid_priority"
    title = "Invalid priority"


class UnsupportedAudioError(UnsupportedMediaError):
    """The first bytes are of no kind of recording that is taken."""

    code = "unsupported_audio"
    title = "Not a supported recording"


class BrokenAudioError(UnprocessableError):
    """It begins like a recording, and no sound can be read from it."""

    code = "broken_audio"
    title = "Broken recording"


class NoAudioError(UnprocessableError):
    """The file is well-formed and has no sound in it."""

    code = "no_audio"
    title = "No audio"


class UploadTooLargeError(TooLargeError):
    """The file has more bytes than MAX_UPLOAD_BYTES."""

    code = "upload_too_large"


class UploadOvertakenError(ConflictError):
    """The job was cancelled, or ended otherwise, while its file came in."""

    code = "job_not_uploading"
    title = "Job ended during the upload"


class AcceptanceUnknownError(UnavailableError):
    """The database went away with its answer to the commit that accepts a job."""


class KeyInUseError(ConflictError):
    """A request with the same Idempotency-Key is still being worked on."""

    code = "idempotency_key_in_use"
    title = "Request in progress"
    retryable = True


class KeyReusedError(UnprocessableError):
    """The Idempotency-Key stands for another payload."""

    code = "idempotency_key_reused"
    title = "Idempotency key was used for another payload"
