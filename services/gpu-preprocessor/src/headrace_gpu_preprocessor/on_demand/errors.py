"""What can be wrong with a request, each with a stable code of its own."""

from headrace_common.errors import (
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    UnsupportedMediaError,
)


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
