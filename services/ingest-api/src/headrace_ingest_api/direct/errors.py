"""What can be wrong with a direct upload, each with a stable code of its own."""

from headrace_common.errors import ConflictError, UnavailableError, UnprocessableError


class TooManyDirectUploadsError(UnavailableError):
    """The API key has as many direct uploads under way as it may."""

    code = "too_many_direct_uploads"
    status = 429
    title = "Too many direct uploads"


class PartsMissingError(ConflictError):
    """S3 has not all parts, or other ones than the client sent; those can be sent again."""

    code = "parts_missing"
    title = "Parts are missing"


class ChecksumMismatchError(UnprocessableError):
    """All parts are there, and the file is not the one that was announced."""

    code = "checksum_mismatch"
    title = "Checksum mismatch"


class NotBegunError(UnavailableError):
    """The upload is just being made, or could not be: S3 has given no id for it."""

    code = "upload_not_begun"
