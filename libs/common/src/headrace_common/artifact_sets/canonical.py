"""The one way to write a JSON value as bytes, so that a signature can cover it."""

import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return a JSON value as bytes: sorted keys, no white space, UTF-8, no escapes but JSON's own.

    Keys are sorted by code point; numbers are written as Python writes them, floats in the
    shortest form that reads back the same.

    Raises:
        ValueError: it has what JSON has not: not-a-number, infinity, half a surrogate pair.
        TypeError: it has what is no JSON value.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()
