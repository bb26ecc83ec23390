"""Text that Postgres can store."""

import re
from typing import Final

#: It stores neither NUL nor halves of surrogate pairs, in text and in JSON.
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def is_storable(value: str) -> bool:
    """Whether Postgres takes `value`; else a statement with it is an error of ours."""
    return _UNSTORABLE.search(value) is None
