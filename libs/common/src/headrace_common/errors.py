"""The one error tree: what went wrong, whether trying again can help, and the HTTP status.

An error that a client may see carries a stable `code`; over HTTP it becomes problem+json
(RFC 9457, see `web.problems`), on the command line one line.
"""

from typing import ClassVar

#: What further members of a problem document may hold; the last are faults of single fields.
Extra = str | int | list[int] | list[dict[str, str]] | None


class HeadraceError(Exception):
    """Base of every expected failure.

    Attributes:
        code: stable, for programs; never reworded.
        status: HTTP status it becomes.
        retryable: whether the same call may succeed later.
        systemic: whether a dependency of every job is at fault, not this job. Whoever works on
            jobs then waits, instead of letting one after the other fail.
        retry_after: seconds to wait before that, where known.
        extra: further members of the problem document.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    systemic: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        retry_after: float | None = None,
        **extra: Extra,
    ) -> None:
        """Make the error.

        Args:
            detail: one readable sentence on this occurrence, without secrets.
            retry_after: seconds to wait before trying again.
            extra: further members of the problem document.
        """
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra


class BadRequestError(HeadraceError):
    """The request cannot be understood."""

    code = "bad_request"
    status = 400
    title = "Bad request"


class JobFinishedError(BadRequestError):
    """The job is in a final state, so it cannot be cancelled (A8)."""

    code = "job_finished"
    title = "Job is finished"


class UnauthorizedError(HeadraceError):
    """No credential, or none that is valid."""

    code = "unauthorized"
    status = 401
    title = "Not authenticated"


class ForbiddenError(HeadraceError):
    """The credential is valid and does not allow this."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class NotFoundError(HeadraceError):
    """There is no such thing."""

    code = "not_found"
    status = 404
    title = "Not found"


class RequestTimeoutError(HeadraceError):
    """The client stopped sending."""

    code = "request_timeout"
    status = 408
    title = "Client sent too slowly"
    retryable = True


class ConflictError(HeadraceError):
    """The state of things does not allow this."""

    code = "conflict"
    status = 409
    title = "Conflict"


class TooLargeError(HeadraceError):
    """More bytes than the setting allows."""

    code = "too_large"
    status = 413
    title = "Too large"


class UnsupportedMediaError(HeadraceError):
    """The content is not of a kind that is taken."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class UnprocessableError(HeadraceError):
    """Understood, and wrong."""

    code = "unprocessable"
    status = 422
    title = "Cannot be processed"


class UnavailableError(HeadraceError):
    """Something this service needs is away, or it is full; try again."""

    code = "unavailable"
    status = 503
    title = "Temporarily unavailable"
    retryable = True

    def __init__(self, detail: str, *, retry_after: float | None = 5, **extra: Extra) -> None:
        """Make the error; clients are asked to wait five seconds unless told otherwise."""
        super().__init__(detail, retry_after=retry_after, **extra)


class MalformedFormError(BadRequestError):
    """The body is not a whole multipart form."""

    code = "malformed_form"
    title = "Malformed form"


class MissingFileError(UnprocessableError):
    """The form has no file in the field `file`, or there is no body."""

    code = "missing_file"
    title = "No file"
