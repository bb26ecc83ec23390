"""The header by which a server asks its clients for patience."""

import email.utils
from typing import Final

#: A server that asks for more patience than this is not believed.
MAX_RETRY_AFTER_SECONDS: Final = 300.0


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3); None if it is neither.

    Args:
        header: its value, if there is one.
        now: seconds since 1970.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        seconds = float(header)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now
        except ValueError:
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
