"""Secrets inside text, known by their looks."""

import re
from typing import Any, Final

REDACTED: Final = "[redacted]"
#: Parameters of a URL's query that let whoever has them in: tokens, and signatures of URLs that
#: S3, Swift, CloudFront, Azure and the common camera servers hand out.
_TELLING_PARAMETERS: Final = (
    r"(?:[\w.-]*(?:token(?!_id)|secret|signature|passw(?:or)?d)\w*|temp_url_sig|sig|sign|auth"
    r"|auth_?key|api_?key|access_?key|key|pass|pwd|policy|jwt|hdnea|hdnts|hmac|x-amz-credential)"
)
#: Our own API keys, webhook secrets, secrets in a query, credentials in a URL.
_SECRET_TEXT: Final = re.compile(
    r"hr_[0-9a-f]{12}_[\w-]+|whsec_[\w+/=-]+"
    r"|(?P<parameter>(?:^|[?&;])(?i:" + _TELLING_PARAMETERS + r")=)[^&;\s\"'<>]+"
    r"|(?<=://)(?:[^/@\s]*:[^/@\s]+|[^/?#@\s]+)(?=@)"
)


def without_secrets(text: str) -> str:
    """Return `text` with every secret that can be recognised replaced."""
    return _SECRET_TEXT.sub(lambda found: (found["parameter"] or "") + REDACTED, text)


def deeply_without_secrets(value: Any) -> Any:
    """Return JSON or a traceback with every secret in its texts replaced, however deep."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: deeply_without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [deeply_without_secrets(item) for item in value]
    return value
