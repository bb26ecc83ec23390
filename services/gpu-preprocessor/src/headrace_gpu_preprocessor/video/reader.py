"""Reads one clip of a stream: frames while it runs, a report at its end."""

import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from headrace_common.errors import HeadraceError
from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.decoder.decode import Order
from headrace_gpu_preprocessor.decoder.protocol import Channel, ProtocolError, read_frame
from headrace_gpu_preprocessor.decoder.protocol import Kind as Message
from headrace_gpu_preprocessor.video import errors
from headrace_gpu_preprocessor.video.desk import Desk, desk_for
from headrace_gpu_preprocessor.video.file import FileSource, open_source
from headrace_gpu_preprocessor.video.limits import MAX_SAMPLES, ReadLimits
from headrace_gpu_preprocessor.video.memory import FrameMemory
from headrace_gpu_preprocessor.video.pool import DecoderPool
from headrace_gpu_preprocessor.video.process import DecoderProcess
from headrace_gpu_preprocessor.video.report import ClipReport, make_report
from headrace_gpu_preprocessor.video.sniff import HLS, Kind
from headrace_gpu_preprocessor.video.source import Source

log = structlog.get_logger()

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


class ClipReader:
    """Reads a clip: a context manager, iterated over once; then `report` says what it is worth.

    The decoder is a process of its own without network: this side fetches every byte through the
    guard and hands it over. Leaving the context ends the process and closes the connections.
    """

    def __init__(
        self,
        url: str,
        seconds: float,
        *,
        guard: NetGuard,
        limits: ReadLimits | None = None,
        kind: Kind = "hls",
        decoders: DecoderPool | None = None,
    ) -> None:
        """Set up, without touching the network.

        Args:
            url: of an HLS playlist or a video file, from outside.
            seconds: of the stream to read.
            guard: which hosts may be reached, and what a request may cost.
            limits: of the clip.
            kind: `hls`, `file`, or `auto` to let the content decide.
            decoders: has one that is started already; None starts one for this clip.

        Raises:
            ValueError: seconds or samples make no sense.
        """
        self._limits = limits or ReadLimits()
        if not 0 < seconds < math.inf or not 0 < self._limits.samples <= MAX_SAMPLES:
            raise ValueError("seconds must be positive, samples between 1 and 255")
        self._seconds = seconds
        self._started = time.monotonic()
        self._deadline = self._started + self._limits.wall_limit(seconds)
        self._url = url
        self._kind: Kind = kind
        self._guard = guard
        self._decoders = decoders
        self._desk: Desk | None = None
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
        if self._desk is not None:
            self._desk.close()
        if self._process is not None:
            self._process.close()
            if self._decoders is not None:
                self._decoders.warm()

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
        # First, so that it starts while the playlist is fetched.
        self._process = DecoderProcess() if self._decoders is None else self._decoders.take()
        source = open_source(
            self._url, self._kind, guard=self._guard, limits=self._limits, deadline=self._deadline
        )
        self._desk = desk_for(source)
        try:
            yield from self._serve(source, self._desk)
        except TimeoutError as error:
            raise errors.VideoTimeLimitError("decoding the clip took longer than it may") from error
        except (EOFError, ConnectionError) as error:
            raise _ended(self._process.exit_code()) from error
        except ProtocolError as error:
            raise errors.DecoderCrashedError(f"the decoder sent nonsense: {error}") from error

    def _serve(self, source: Source | FileSource, desk: Desk) -> Iterator[Frame]:
        channel, frames = self._begun(source)
        while True:
            channel.socket.settimeout(source.left())
            kind, payload = channel.receive()
            match kind:
                case Message.FRAME:
                    clip_time, width, height = read_frame(payload)
                    yield Frame(clip_time, frames.next(width, height))
                case Message.DONE:
                    self._report = self._finish(_json(payload), source)
                    return
                case Message.FAILED:
                    raise _failure(_json(payload), source)
                case _:
                    answer = desk.answer(kind, payload)
                    if answer is not None:
                        channel.send(Message.DATA, answer)

    def _begun(self, source: Source | FileSource) -> tuple[Channel, FrameMemory]:
        """Give the decoder its order; a spare that died meanwhile is replaced, once."""
        assert self._process is not None  # noqa: S101 - it was started before the source
        try:
            return self._ordered(self._process, source)
        except ConnectionError:
            if self._decoders is None:
                raise
        log.warning("video.spare_decoder_died", exit_code=self._process.exit_code())
        self._process.close()
        self._process = DecoderProcess()
        return self._ordered(self._process, source)

    def _ordered(
        self, process: DecoderProcess, source: Source | FileSource
    ) -> tuple[Channel, FrameMemory]:
        process.channel.socket.settimeout(source.left())
        container = source.container if isinstance(source, FileSource) else HLS
        return process.channel, process.begin(self._order(container), self._frame_bytes())

    def _frame_bytes(self) -> int:
        return self._limits.samples * self._limits.output_pixels * 3

    def _order(self, container: str) -> dict[str, Any]:
        limits = self._limits
        order = Order(
            seconds=self._seconds,
            samples=limits.samples,
            max_pixels=limits.most_pixels,
            output_pixels=limits.output_pixels,
            max_frames=int((self._seconds + 5) * limits.frames_per_second),
            container=container,
        )
        cpu = math.ceil(limits.wall_limit(self._seconds) * _CPU_PER_SECOND)
        return {"order": asdict(order), "memory_bytes": limits.memory_bytes, "cpu_seconds": cpu}

    def _finish(self, seen: dict[str, Any], source: Source | FileSource) -> ClipReport:
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


def _ended(code: int | None) -> errors.VideoError:
    """Return why a decoder is gone without a word: SIGKILL is nothing that a stream can send."""
    if code == -signal.SIGKILL:
        return errors.DecoderKilledError("the decoder was killed; is there too little memory?")
    return errors.DecoderCrashedError(f"the decoder ended with code {code}")


def _failure(failed: dict[str, Any], source: Source | FileSource) -> HeadraceError:
    """Return the decoder's error, or the fault of the stream that led to it."""
    error = errors.DECODER_ERRORS.get(str(failed.get("code")), errors.DecoderCrashedError)
    starved = issubclass(error, errors.NotVideoError | errors.NoVideoError)
    if source.faults and starved:
        return source.faults[-1]
    return error(str(failed.get("detail"))[:500])


def _json(payload: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise ProtocolError("a message that is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("a message that is not an object")
    return value
