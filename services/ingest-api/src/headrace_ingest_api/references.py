"""A token's reference files: checked, and stored where no later file overwrites them.

A job keeps the URLs that its token had at the upload. The key of a file therefore holds its
hash, so that a job that still waits is compared with what its token meant then.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headrace_common.errors import UnprocessableError
from headrace_common.storage import S3Location

_BINARY_TEXTGRID: Final = b"ooBinaryFile\x08TextGrid"
_TEXT_MARKS: Final = ("ooTextFile", "TextGrid")
_CHRONOLOGICAL: Final = '"Praat chronological TextGrid text file"'
#: Both marks stand in the first lines.
_HEAD_CHARACTERS: Final = 400
_HASH_CHARACTERS: Final = 32


class ReferenceKind(StrEnum):
    """The two reference files; the value is the last word of the route."""

    TEXTGRID = "textgrid"
    PITCH = "pitch"


@dataclass(frozen=True)
class Reference:
    """A reference file that passed its check."""

    kind: ReferenceKind
    content: bytes

    @property
    def media_type(self) -> str:
        """The Content-Type that it is stored with."""
        return "application/json" if self.kind is ReferenceKind.PITCH else "text/plain"

    def location(self, bucket: str, token_id: str) -> S3Location:
        """Return where it belongs."""
        digest = hashlib.sha256(self.content).hexdigest()[:_HASH_CHARACTERS]
        ending = "json" if self.kind is ReferenceKind.PITCH else "TextGrid"
        return S3Location(bucket, f"references/{token_id}/{digest}.{ending}")


def check_reference(kind: ReferenceKind, content: bytes) -> Reference:
    """Check that `content` looks like what it should be.

    Raises:
        UnprocessableError: it does not, with the reason.
    """
    if not content:
        raise UnprocessableError(f"the {kind} file is empty")
    if kind is ReferenceKind.PITCH:
        _check_pitch(content)
    elif not _is_textgrid(content):
        raise UnprocessableError("the file is not a Praat TextGrid")
    return Reference(kind, content)


def _check_pitch(content: bytes) -> None:
    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UnprocessableError(f"the pitch file is not JSON: {error}"[:300]) from None
    if not isinstance(value, dict | list) or not value:
        raise UnprocessableError("the pitch file holds neither an object nor a list")


def _is_textgrid(content: bytes) -> bool:
    """Look for the marks of Praat's files: long, short, chronological or binary."""
    if content.startswith(_BINARY_TEXTGRID):
        return True
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    head = content[: 2 * _HEAD_CHARACTERS].decode(encoding, errors="replace")[:_HEAD_CHARACTERS]
    return all(mark in head for mark in _TEXT_MARKS) or head.startswith(_CHRONOLOGICAL)
