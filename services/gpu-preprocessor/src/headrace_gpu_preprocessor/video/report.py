"""What a clip is worth: its length, its gaps, its faults."""

from dataclasses import dataclass
from typing import Any

from headrace_gpu_preprocessor.decoder.protocol import ProtocolError


@dataclass(frozen=True)
class Gap:
    """Pictures are missing here. Seconds of clip time."""

    at: float
    seconds: float


@dataclass(frozen=True)
class ClipReport:
    """What was read.

    Attributes:
        seconds: asked for.
        span_seconds: from the first frame to the end of the last.
        covered_seconds: of which there are pictures.
        elapsed_seconds: that reading took.
        codec: as FFmpeg names it.
        width: of the stream's frames.
        height: of the stream's frames.
        frames_per_second: as the stream says; 0 for not at all.
        frames: of the stream, decoded or not.
        decoded: frames that the samples needed.
        samples: handed over.
        corrupt_frames: decoded with damage, and not handed over.
        bad_packets: that could not be decoded.
        discontinuities: jumps of the stream's own clock.
        gaps: where pictures are missing.
        faults: codes of what went wrong on the way, in order.
        bytes_read: of playlists and segments.
        live: whether the playlist was growing.
        closed_off: whether the decoder was held by a seccomp filter.
    """

    seconds: float
    span_seconds: float
    covered_seconds: float
    elapsed_seconds: float
    codec: str
    width: int
    height: int
    frames_per_second: float
    frames: int
    decoded: int
    samples: int
    corrupt_frames: int
    bad_packets: int
    discontinuities: int
    gaps: tuple[Gap, ...]
    faults: tuple[str, ...]
    bytes_read: int
    live: bool
    closed_off: bool

    @property
    def short(self) -> bool:
        """Whether there is less of the clip than was asked for, by more than a frame or two."""
        return self.span_seconds < self.seconds * 0.98

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.short or self.gaps or self.faults)


def make_report(
    seen: dict[str, Any],
    *,
    seconds: float,
    elapsed: float,
    bytes_read: int,
    live: bool,
    faults: tuple[str, ...],
) -> ClipReport:
    """Make the report from what the decoder says, checked, and what this side knows.

    Raises:
        ProtocolError: the decoder's part is not one.
    """
    try:
        return ClipReport(
            seconds=seconds,
            span_seconds=round(float(seen["span_seconds"]), 3),
            covered_seconds=round(float(seen["covered_seconds"]), 3),
            elapsed_seconds=round(elapsed, 3),
            codec=str(seen["codec"])[:40],
            width=int(seen["width"]),
            height=int(seen["height"]),
            frames_per_second=float(seen["frames_per_second"]),
            frames=int(seen["frames"]),
            decoded=int(seen["decoded"]),
            samples=int(seen["sampled"]),
            corrupt_frames=int(seen["corrupt_frames"]),
            bad_packets=int(seen["bad_packets"]),
            discontinuities=int(seen["discontinuities"]),
            gaps=tuple(Gap(float(at), round(float(length), 3)) for at, length in seen["gaps"]),
            faults=faults,
            bytes_read=bytes_read,
            live=live,
            closed_off=seen["closed_off"] is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("a report that is none") from error
