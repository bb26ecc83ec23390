"""A multipart form as it arrives: small fields, and one file that is never held as a whole.

python-multipart's parser is pushed with what the socket gives and calls back with slices of
it, which pass on without a copy. Whatever a sender may inflate is bounded.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headrace_common.errors import MalformedFormError, MissingFileError, UnsupportedMediaError

#: The form has two fields; some senders add their own.
MAX_PARTS: Final = 20
#: `priority` is one word.
MAX_FIELD_BYTES: Final = 1_024
#: Boundaries, headers and small fields around the file, with room for generous senders.
MAX_ENVELOPE_BYTES: Final = 128 * 1024

FILE_FIELD: Final = "file"


@dataclass(frozen=True, slots=True)
class FormField:
    """A small field, whole."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """The file begins; its name is as the client gave it."""

    filename: str | None


@dataclass(frozen=True, slots=True)
class FileData:
    """Some of the file's bytes, valid until the next event is asked for."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file is whole."""


FormEvent = FormField | FileStart | FileData | FileEnd


def boundary_of(content_type: str | None) -> bytes:
    """Read the boundary out of a request's Content-Type.

    Raises:
        UnsupportedMediaError: it is not `multipart/form-data`.
        MalformedFormError: it names no boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data":
        raise UnsupportedMediaError("send the recording as multipart/form-data")
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedFormError("the Content-Type names no boundary")
    return boundary


class FormParser:
    """Turns pieces of a body into events."""

    def __init__(self, boundary: bytes) -> None:
        """Begin a form.

        Raises:
            MalformedFormError: the boundary is not one.
        """
        self._events: list[FormEvent] = []
        self._part: _Part = _Part()
        self._parts = 0
        self._seen_file = False
        self._header_name = b""
        self._header_value = b""
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_text,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedFormError(f"not a multipart form: {error}") from None

    def feed(self, chunk: bytes) -> Iterator[FormEvent]:
        """Yield what `chunk` brings.

        Raises:
            MalformedFormError: it cannot follow what came before.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedFormError(f"not a multipart form: {error}") from None
        events, self._events = self._events, []
        yield from events

    def close(self) -> None:
        """Check that the form is whole.

        Raises:
            MalformedFormError: it ended before its last boundary.
        """
        if not self._ended:
            raise MalformedFormError("the form ends before its closing boundary")

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MalformedFormError(f"the form has more than {MAX_PARTS} fields")
        self._part = _Part()
        self._header_name = self._header_value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._part.name = _text(options.get(b"name", b""))
            filename = options.get(b"filename")
            self._part.filename = None if filename is None else _text(filename)
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        if self._part.name != FILE_FIELD:
            return
        if self._seen_file:
            raise MalformedFormError(f"the form has several fields {FILE_FIELD!r}; send one")
        self._seen_file = self._part.is_file = True
        self._events.append(FileStart(self._part.filename))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._events.append(FileData(memoryview(data)[start:end]))
            return
        self._part.value += data[start:end]
        if len(self._part.value) > MAX_FIELD_BYTES:
            raise MalformedFormError(
                f"the field {self._part.name[:100]!r} is longer than {MAX_FIELD_BYTES} bytes"
            )

    def _part_end(self) -> None:
        if self._part.is_file:
            self._events.append(FileEnd())
        else:
            self._events.append(FormField(self._part.name, _text(bytes(self._part.value))))

    def _end(self) -> None:
        self._ended = True


class _Part:
    """The part that is being read."""

    def __init__(self) -> None:
        self.name = ""
        self.filename: str | None = None
        self.is_file = False
        self.value = bytearray()


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")


class UploadForm:
    """The form of one upload, read in order: what precedes the file, the file, what follows."""

    def __init__(self, body: AsyncIterator[bytes], boundary: bytes) -> None:
        """Read `body`, which has not been touched yet."""
        self._parser = FormParser(boundary)
        self._stream = self._read(body)
        self._head: list[bytes] = []
        self._file_ended = False
        self.fields: dict[str, str] = {}
        self.filename: str | None = None

    async def file_head(self, size: int) -> bytes:
        """Read up to the file, and of it `size` bytes or all, which `file_chunks` gives again.

        Raises:
            MissingFileError: there is no file.
        """
        if not await self._find_file():
            raise MissingFileError(f"the form has no field {FILE_FIELD!r}")
        while not self._file_ended and sum(map(len, self._head)) < size:
            await self._next_chunk()
        return b"".join(self._head)[:size]

    async def file_chunks(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the file, each piece valid until the next; then read the rest of the form."""
        for head in self._head:
            yield head
        self._head = []
        async for event in self._stream:
            if isinstance(event, FileData):
                yield event.data
            elif isinstance(event, FormField):
                self.fields[event.name] = event.value

    async def _find_file(self) -> bool:
        async for event in self._stream:
            if isinstance(event, FileStart):
                self.filename = event.filename
                return True
            if isinstance(event, FormField):
                self.fields[event.name] = event.value
        return False

    async def _next_chunk(self) -> None:
        async for event in self._stream:
            if isinstance(event, FileData):
                self._head.append(bytes(event.data))
            elif isinstance(event, FileEnd):
                self._file_ended = True
            elif isinstance(event, FormField):
                self.fields[event.name] = event.value
            return

    async def _read(self, body: AsyncIterator[bytes]) -> AsyncIterator[FormEvent]:
        async for chunk in body:
            for event in self._parser.feed(chunk):
                yield event
        self._parser.close()
