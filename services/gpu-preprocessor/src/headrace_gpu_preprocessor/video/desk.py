"""Answers what the decoder asks for: resources of a stream, or pieces of a file."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, Protocol

from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.decoder.decode import PLAYLIST, VIDEO_FILE
from headrace_gpu_preprocessor.decoder.protocol import MAX_MESSAGE_BYTES, Kind, ProtocolError
from headrace_gpu_preprocessor.video.file import FileSource
from headrace_gpu_preprocessor.video.source import Source

_HANDLE: Final = struct.Struct("!I")
_READ: Final = struct.Struct("!II")
_READ_AT: Final = struct.Struct("!QI")
#: FFmpeg holds a playlist, an initialisation section and a segment open, seldom more.
_MAX_OPEN: Final = 16


class Desk(Protocol):
    """Where the decoder asks."""

    def answer(self, kind: Kind, payload: bytearray) -> bytes | None:
        """Return what to send back; None for nothing.

        Raises:
            HeadraceError: the clip is to end with it.
            ProtocolError: the decoder asks for what it may not.
        """

    def close(self) -> None:
        """Let go of everything."""


def desk_for(source: Source | FileSource) -> Desk:
    """Return the desk of a source."""
    return FileDesk(source) if isinstance(source, FileSource) else StreamDesk(source)


class FileDesk:
    """Hands out pieces of one file."""

    def __init__(self, source: FileSource) -> None:
        """Serve a file that is there."""
        self._source = source

    def answer(self, kind: Kind, payload: bytearray) -> bytes | None:
        """Answer as `Desk` says."""
        if kind is Kind.OPEN and payload == VIDEO_FILE.encode():
            return self._source.bytes_read.to_bytes(8, "big")
        if kind is Kind.READ_AT:
            offset, size = _unpack(_READ_AT, payload)
            return self._source.read_at(offset, min(size, MAX_MESSAGE_BYTES))
        raise ProtocolError(f"unexpected {kind.name}")

    def close(self) -> None:
        """Give the file back."""
        self._source.close()


class StreamDesk:
    """Opens the resources of a stream by the names that its playlist has for the decoder."""

    def __init__(self, source: Source) -> None:
        """Serve a stream that has started."""
        self._source = source
        self._handles: dict[int, _Handle] = {}
        self._opened = 0

    def answer(self, kind: Kind, payload: bytearray) -> bytes | None:
        """Answer as `Desk` says.

        A fault that the clip may survive looks like the end of that segment: FFmpeg goes on with
        the next. An error would not do, as PyAV raises it again and ends the clip.
        """
        match kind:
            case Kind.OPEN:
                return self._open(payload.decode("ascii", "replace"))
            case Kind.READ:
                return self._read(*_unpack(_READ, payload))
            case Kind.CLOSE:
                self._close(*_unpack(_HANDLE, payload))
                return None
            case _:
                raise ProtocolError(f"unexpected {kind.name}")

    def close(self) -> None:
        """Close every connection."""
        for handle in self._handles.values():
            handle.stack.close()
        self._handles.clear()

    def _open(self, name: str) -> bytes:
        if len(self._handles) >= _MAX_OPEN:
            raise ProtocolError("too many resources open")
        self._opened += 1
        with ExitStack() as stack:
            chunks = self._chunks(name, stack)
            self._handles[self._opened] = _Handle(chunks, stack.pop_all())
        return _HANDLE.pack(self._opened)

    def _chunks(self, name: str, stack: ExitStack) -> Iterator[bytes]:
        try:
            if name == PLAYLIST:
                return iter((self._source.playlist(),))
            return self._source.segment(name, stack)
        except HeadraceError as error:
            self._source.note(error)
            return iter(())

    def _read(self, number: int, size: int) -> bytes:
        handle = self._handles.get(number)
        if handle is None:
            raise ProtocolError("a resource that is not open")
        try:
            return handle.read(min(size, MAX_MESSAGE_BYTES))
        except HeadraceError as error:
            self._source.note(error)
            handle.give_up()
            return b""

    def _close(self, number: int) -> None:
        handle = self._handles.pop(number, None)
        if handle is not None:
            handle.stack.close()


class _Handle:
    """A resource that the decoder has open."""

    def __init__(self, chunks: Iterator[bytes], stack: ExitStack) -> None:
        self._chunks = chunks
        self._left = bytearray()
        self._fault: HeadraceError | None = None
        self.stack = stack

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at the end or before a fault, which comes next.

        The network's chunks are small, and each turn costs the decoder a wait.
        """
        if self._fault is None:
            self._gather(size)
        if self._fault is not None and not self._left:
            raise self._fault
        piece = bytes(self._left[:size])
        del self._left[:size]
        return piece

    def give_up(self) -> None:
        """Read no further: from now on this is the end."""
        self._chunks, self._fault = iter(()), None

    def _gather(self, size: int) -> None:
        try:
            while len(self._left) < size:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._left += chunk
        except HeadraceError as error:
            self._fault = error


def _unpack(form: struct.Struct, payload: bytes | bytearray) -> tuple[int, ...]:
    if len(payload) != form.size:
        raise ProtocolError("a message of another length")
    return form.unpack(payload)
