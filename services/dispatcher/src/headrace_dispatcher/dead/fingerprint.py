"""The fingerprint of a letter: the same for all that died of the same cause."""

import hashlib
import re
from typing import Final

#: What differs between letters with one cause, in the order in which it is taken out: what is
#: found first must not be torn apart by what comes later.
_VARIABLE: Final = (
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>),]+", re.IGNORECASE), "<url>"),
    (
        re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE),
        "<uuid>",
    ),
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"),
        "<time>",
    ),
    (re.compile(r"\b0x[0-9a-f]+", re.IGNORECASE), "<hex>"),
    # Seven or more, among them a digit: a hash, no word.
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{7,}\b", re.IGNORECASE), "<hex>"),
    # Ids of other makes: long, with digits between letters.
    (re.compile(r"\b(?=[\w-]*[A-Za-z])(?=(?:[A-Za-z_-]*\d){4})[\w-]{16,}\b"), "<id>"),
    (re.compile(r"\d+(?:[.,:-]\d+)*"), "<n>"),
    (re.compile(r"\s+"), " "),
)
#: A reason differs at its beginning; what comes later is a story about the single letter.
_LONGEST: Final = 500
_DIGITS: Final = 16


def normalised(reason: str) -> str:
    """Return a reason without what differs between letters with one cause.

    Ids, numbers, hexadecimals, UUIDs, URLs and times are replaced by what they are.
    """
    for pattern, name in _VARIABLE:
        reason = pattern.sub(name, reason)
    return reason.strip()[:_LONGEST]


def fingerprint(*, source: str, queue: str, code: str, reason: str) -> str:
    """Return 16 hexadecimal digits that letters with one cause share."""
    told = "\0".join((source, queue, code, normalised(reason)))
    return hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]
