"""Secrets inside text, known by their looks."""

import re
from typing import Final

REDACTED: Final = "[redacted]"
#: Our own API keys, webhook secrets, tokens in a query, passwords in a URL.
_SECRET_TEXT: Final = re.compile(
    r"hr_[0-9a-f]{12}_[\w-]+|whsec_[\w+/=-]+|(?<=[?&]token=)[^&\s\"']+|(?<=^token=)[^&\s\"']+"
    r"|(?<=://)[^/@\s]*:[^/@\s]+(?=@)"
)


def without_secrets(text: str) -> str:
    """Return `text` with every secret that can be recognised replaced."""
    return _SECRET_TEXT.sub(REDACTED, text)
