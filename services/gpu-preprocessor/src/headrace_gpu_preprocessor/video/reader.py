"""Reads one clip of a stream: frames while it runs, a report at its end."""

import json
import math
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from headrace_common.errors import HeadraceError
from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.decoder.decode import PLAYLIST, Order
from headrace_gpu_preprocessor.decoder.protocol import (
    MAX_MESSAGE_BYTES,
    Kind,
    ProtocolError,
    read_frame,
)
from headrace_gpu_preprocessor.video import errors
from headrace_gpu_preprocessor.video.limits import MAX_SAMPLES, ReadLimits
from headrace_gpu_preprocessor.video.process import DecoderProcess
from headrace_gpu_preprocessor.video.report import ClipReport, make_report
from headrace_gpu_preprocessor.video.source import Source

_HANDLE: Final = struct.Struct("!I")
_READ: Final = struct.Struct("!II")
#: FFmpeg holds a playlist, an initialisation section and a segment open, seldom more.
_MAX_OPEN: Final = 16
#: Processor seconds of the decoder for each second of wall clock: it has two threads.
_CPU_PER_SECOND: Final = 2


@dataclass(frozen=True)
class Frame:
    """One sample of a clip.

    Attributes:
        time: clip time in seconds, from the first frame.
        pixels: BGR, height x width x 3.
    """

    time: float
    pixels: NDArray[np.uint8]


class _Handle:
    """A resource that the decoder has open."""

    def __init__(self, chunks: Iterator[bytes], stack: ExitStack) -> None:
        self.chunks = chunks
        self._left = b""
        self.stack = stack

    def read(self, size: int) -> bytes:
        while not self._left:
            chunk = next(self.chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        piece, self._left = self._left[:size], self._left[size:]
        return piece


class ClipReader:
    """Reads a clip: a context manager, iterated over once; then `report` says what it is worth.

    The decoder is a process of its own without network: this side fetches every byte through the
    guard and hands it over. Leaving the context ends the process and closes the connections.
    """

    def __init__(
        self, url: str, seconds: float, *, guard: NetGuard, limits: ReadLimits | None = None
    ) -> None:
        """Set up, without touching the network.

        Args:
            url: of an HLS playlist, from outside.
            seconds: of the stream to read.
            guard: which hosts may be reached, and what a request may cost.
            limits: of the clip.

        Raises:
            ValueError: seconds or samples make no sense.
        """
        self._limits = limits or ReadLimits()
        if not 0 < seconds < math.inf or not 0 < self._limits.samples <= MAX_SAMPLES:
            raise ValueError("seconds must be positive, samples between 1 and 255")
        self._seconds = seconds
        self._started = time.monotonic()
        self._deadline = self._started + self._limits.wall_limit(seconds)
        self._source = Source(url, guard, self._limits, self._deadline)
        self._handles: dict[int, _Handle] = {}
        self._opened = 0
        self._process: DecoderProcess | None = None
        self._report: ClipReport | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles.values():
            handle.stack.close()
        self._handles.clear()
        if self._process is not None:
            self._process.close()

    @property
    def report(self) -> ClipReport:
        """What was read; there once the iteration has ended without an error."""
        if self._report is None:
            raise RuntimeError("the clip has not been read to its end")
        return self._report

    def __iter__(self) -> Iterator[Frame]:
        """Yield the samples as they are decoded.

        Raises:
            HeadraceError: a VideoError, or a refusal of the guard, each with its code.
        """
        limits = self._limits
        # First, so that it starts while the playlist is fetched.
        self._process = DecoderProcess(limits.samples * limits.output_pixels * 3)
        self._source.start()
        try:
            yield from self._serve(self._process)
        except TimeoutError as error:
            raise errors.VideoTimeLimitError("decoding the clip took longer than it may") from error
        except (EOFError, ConnectionError) as error:
            code = self._process.exit_code()
            raise errors.DecoderCrashedError(f"the decoder ended with code {code}") from error
        except ProtocolError as error:
            raise errors.DecoderCrashedError(f"the decoder sent nonsense: {error}") from error

    def _serve(self, process: DecoderProcess) -> Iterator[Frame]:
        channel = process.channel
        channel.socket.settimeout(self._source.left())
        channel.send_json(Kind.START, self._order())
        while True:
            channel.socket.settimeout(self._source.left())
            kind, payload = channel.receive()
            match kind:
                case Kind.OPEN | Kind.READ:
                    channel.send(Kind.DATA, self._answer(kind, payload))
                case Kind.CLOSE:
                    self._close(*_unpack(_HANDLE, payload))
                case Kind.FRAME:
                    clip_time, width, height = read_frame(payload)
                    yield Frame(clip_time, process.frames.next(width, height))
                case Kind.DONE:
                    self._report = self._finish(_json(payload))
                    return
                case Kind.FAILED:
                    raise self._failure(_json(payload))
                case _:
                    raise ProtocolError(f"unexpected {kind.name}")

    def _order(self) -> dict[str, Any]:
        limits = self._limits
        order = Order(
            seconds=self._seconds,
            samples=limits.samples,
            max_pixels=limits.most_pixels,
            output_pixels=limits.output_pixels,
            max_frames=int((self._seconds + 5) * limits.frames_per_second),
        )
        cpu = math.ceil(limits.wall_limit(self._seconds) * _CPU_PER_SECOND)
        return {"order": asdict(order), "memory_bytes": limits.memory_bytes, "cpu_seconds": cpu}

    def _answer(self, kind: Kind, payload: bytearray) -> bytes:
        """Open or read for the decoder.

        A fault that the clip may survive looks like the end of that segment: FFmpeg goes on with
        the next. An error would not do, as PyAV raises it again and ends the clip.
        """
        if kind is Kind.OPEN:
            return self._open(payload.decode("ascii", "replace"))
        number, size = _unpack(_READ, payload)
        handle = self._handles.get(number)
        if handle is None:
            raise ProtocolError("a resource that is not open")
        try:
            return handle.read(min(size, MAX_MESSAGE_BYTES))
        except HeadraceError as error:
            self._source.note(error)
            handle.chunks = iter(())
            return b""

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

    def _close(self, number: int) -> None:
        handle = self._handles.pop(number, None)
        if handle is not None:
            handle.stack.close()

    def _failure(self, failed: dict[str, Any]) -> HeadraceError:
        """Return the decoder's error, or the fault of the stream that led to it."""
        error = errors.DECODER_ERRORS.get(str(failed.get("code")), errors.DecoderCrashedError)
        starved = issubclass(error, errors.NotVideoError | errors.NoVideoError)
        if self._source.faults and starved:
            return self._source.faults[-1]
        return error(str(failed.get("detail"))[:500])

    def _finish(self, seen: dict[str, Any]) -> ClipReport:
        source = self._source
        report = make_report(
            seen,
            seconds=self._seconds,
            elapsed=time.monotonic() - self._started,
            bytes_read=source.bytes_read,
            live=source.live,
            faults=tuple(fault.code for fault in source.faults),
        )
        if report.covered_seconds < self._limits.min_coverage * self._seconds:
            if source.faults:
                raise source.faults[-1]
            raise errors.ClipTooShortError(
                f"{report.covered_seconds:.1f} s of the {self._seconds:g} s were there"
            )
        return report


def _unpack(form: struct.Struct, payload: bytes | bytearray) -> tuple[int, ...]:
    if len(payload) != form.size:
        raise ProtocolError("a message of another length")
    return form.unpack(payload)


def _json(payload: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise ProtocolError("a message that is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a message that is not an object")
    return value
