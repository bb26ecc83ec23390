"""Where the requests on an HTTP/1.1 connection begin and end; their bytes stay as they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

#: Servers refuse a longer head; so whatever this is, it is no HTTP request.
_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_END: Final = b"\r\n\r\n"


class NotHttpError(Exception):
    """These bytes are no HTTP/1.1 request."""


@dataclass(frozen=True)
class Head:
    """The head of a request.

    Attributes:
        raw: its bytes.
        waits: its sender wants to hear `100 Continue` before it sends the body.
    """

    raw: bytes
    waits: bool


@dataclass(frozen=True)
class Piece:
    """Some bytes of a body, with the framing of its chunks."""

    raw: bytes


@dataclass(frozen=True)
class End:
    """The request is complete."""


class _Part(Enum):
    HEAD = auto()
    BODY = auto()
    CHUNK_SIZE = auto()
    TRAILER = auto()


class RequestReader:
    """Cuts the bytes of a connection into requests."""

    def __init__(self) -> None:
        """Make it for a new connection."""
        self._bytes = b""
        self._part = _Part.HEAD
        self._left = 0  # bytes of the body, or of the chunk with its line end
        self._chunked = False

    def feed(self, data: bytes) -> Iterator[Head | Piece | End]:
        """Take bytes, and yield what they bring.

        Raises:
            NotHttpError: they are no request.
        """
        self._bytes += data
        while self._bytes:
            before = (len(self._bytes), self._part)
            yield from self._step()
            if (len(self._bytes), self._part) == before:
                return

    def _step(self) -> Iterator[Head | Piece | End]:
        match self._part:
            case _Part.HEAD:
                yield from self._head()
            case _Part.BODY:
                yield from self._body()
            case _Part.CHUNK_SIZE:
                yield from self._chunk_size()
            case _Part.TRAILER:
                yield from self._trailer()

    def _head(self) -> Iterator[Head | End]:
        raw, found, rest = self._bytes.partition(_HEAD_END)
        if not found:
            if len(self._bytes) > _MAX_HEAD_BYTES:
                raise NotHttpError
            return
        self._bytes = rest
        line, *fields = raw.split(b"\r\n")
        if not line.endswith((b"HTTP/1.1", b"HTTP/1.0")):
            raise NotHttpError
        headers = dict(_field(each) for each in fields)
        self._chunked = headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
        self._left = _length(headers)
        yield Head(raw + _HEAD_END, waits=headers.get(b"expect", b"").lower() == b"100-continue")
        if self._chunked:
            self._part = _Part.CHUNK_SIZE
        elif self._left:
            self._part = _Part.BODY
        else:
            yield End()

    def _body(self) -> Iterator[Piece | End]:
        piece, self._bytes = self._bytes[: self._left], self._bytes[self._left :]
        self._left -= len(piece)
        yield Piece(piece)
        if self._left:
            return
        if self._chunked:
            self._part = _Part.CHUNK_SIZE
        else:
            self._part = _Part.HEAD
            yield End()

    def _chunk_size(self) -> Iterator[Piece]:
        line, found, rest = self._bytes.partition(b"\r\n")
        if not found:
            return
        self._bytes = rest
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise NotHttpError from None
        yield Piece(line + b"\r\n")
        self._left = size + 2
        self._part = _Part.BODY if size else _Part.TRAILER

    def _trailer(self) -> Iterator[Piece | End]:
        line, found, rest = self._bytes.partition(b"\r\n")
        if not found:
            return
        self._bytes = rest
        yield Piece(line + b"\r\n")
        if not line:
            self._part = _Part.HEAD
            yield End()


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()


def _length(headers: dict[bytes, bytes]) -> int:
    try:
        return int(headers.get(b"content-length", b"0"))
    except ValueError:
        raise NotHttpError from None
