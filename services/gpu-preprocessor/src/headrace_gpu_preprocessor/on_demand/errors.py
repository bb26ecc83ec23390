"""What can be wrong with a request, each with a stable code of its own."""

from headrace_common.errors import (
    BadRequestError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    UnsupportedMediaError,
)


class MalformedFormError(BadRequestError):
    """The body is not a whole multipart form."""

    code = "malformed_form"
    title = "Malformed form"


class MissingFileError(UnprocessableError):
    """The form has no file called `file`, or the body is empty."""

    code = "missing_file"
    title = "No file"


class ImageTooLargeError(TooLargeError):
    """The picture has more bytes or pixels than are taken."""

    code = "image_too_large"
    title = "Picture too large"


class UnsupportedImageError(UnsupportedMediaError):
    """It is no JPEG, PNG or WebP."""

    code = "unsupported_image"
    title = "Not a supported picture"


class BrokenImageError(UnprocessableError):
    """It begins like a picture, and cannot be decoded."""

    code = "broken_image"
    title = "Broken picture"


class InvalidRegionError(UnprocessableError):
    """The region is not a list of polygons."""

    code = "invalid_region"
    title = "Invalid region"


class ClipTooLongError(UnprocessableError):
    """More seconds are asked for than a request may have."""

    code = "clip_too_long"
    title = "Clip too long"


class BusyError(UnavailableError):
    """As many requests as are taken are under way."""

    code = "detection_busy"
    title = "Detection is busy"


class StoppingError(UnavailableError):
    """The process stops; another one will answer."""

    code = "stopping"
    title = "Service is stopping"
