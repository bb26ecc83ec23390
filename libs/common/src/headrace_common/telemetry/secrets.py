"""Secrets inside text, known by their looks."""

import re
from collections.abc import Callable
from typing import Any, Final

REDACTED: Final = "[redacted]"
#: Parameters of a URL's query that let whoever has them in: tokens, and signatures of URLs that
#: S3, Swift, CloudFront, Azure, Akamai, nginx and the common camera servers hand out. A list like
#: this is never whole: what is known to be a camera's URL goes through `without_url_values`.
_TELLING_PARAMETERS: Final = (
    r"(?:[\w.-]*(?:token(?!_id)|secret|signature|passw(?:or)?d|hash|hmac|session|credential)\w*"
    r"|[\w.-]*[_-](?:key|sign|sig|pw)|(?-i:\w*[a-z](?:Key|Sign|Sig|Pw))|wmsauthsign"
    r"|(?:auth|api|access|service|stream)key"
    r"|key|sign|sig|auth|pass|pwd|pw|policy|jwt|md5|st|hdnea|hdnts)"
)
#: Our own API keys, webhook secrets, secrets in a query or a path, credentials in a URL.
_SECRET_TEXT: Final = re.compile(
    r"hr_[0-9a-f]{12}_[\w-]+|whsec_[\w+/=-]+"
    r"|(?P<parameter>(?:^|[?&;/~])(?i:" + _TELLING_PARAMETERS + r")=)[^&;\s\"'<>]+"
    r"|(?<=://)(?:[^/?#\s]+|[^/:\s]*:[^/\s]+)(?=@)"
)
_URL: Final = re.compile(r"(?i:https?)://[^\s\"'<>]+")
_URL_PARTS: Final = re.compile(
    r"(?P<scheme>[^:/?#]*://)(?P<place>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<rest>#.*)?",
    re.DOTALL,
)
#: The Akamai way: a token as a part of the path.
_PATH_VALUE: Final = re.compile(r"(?<==)[^/]+")
#: With its name, if it has one.
_QUERY_VALUE: Final = re.compile(r"(?P<name>[?&;](?:[^=&;]*+=)?+)[^&;]+")


def without_secrets(text: str) -> str:
    """Return `text` with every secret that can be recognised replaced."""
    return _SECRET_TEXT.sub(lambda found: (found["parameter"] or "") + REDACTED, text)


def deeply_without_secrets(value: Any) -> Any:
    """Return JSON or a traceback with every secret in its texts replaced, however deep."""
    return _deeply(value, without_secrets, without_secrets)


def without_url_values(text: str) -> str:
    """Return `text` without secrets, and without any value in the queries of its URLs.

    For what is said of cameras' streams: whatever is in such a query may be what lets one in.
    """
    return without_secrets(_URL.sub(lambda found: shown_url(found[0]), text))


def shown_url(url: str) -> str:
    """Return a camera's URL with the names of its parameters only, without user and password."""
    parts = _URL_PARTS.fullmatch(url)
    if parts is None:
        return REDACTED  # no URL at all: nobody knows what it is
    user, at, host = parts["place"].rpartition("@")
    path = _PATH_VALUE.sub(REDACTED, parts["path"])
    query = _QUERY_VALUE.sub(lambda found: found["name"] + REDACTED, parts["query"] or "")
    place = (REDACTED if user else "") + at + host
    return parts["scheme"] + place + path + query + ("#" + REDACTED if parts["rest"] else "")


def deeply_without_url_values(value: Any) -> Any:
    """Return JSON with `without_url_values` of its texts; `hls` is a URL to its end."""
    return _deeply(value, without_url_values, shown_url)


def _deeply(value: Any, clean: Callable[[str], str], clean_stream: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {
            key: clean_stream(item)
            if key == "hls" and isinstance(item, str)
            else _deeply(item, clean, clean_stream)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_deeply(item, clean, clean_stream) for item in value]
    return value
