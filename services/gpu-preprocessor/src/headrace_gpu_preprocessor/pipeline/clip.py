"""The first half of a job: a clip is read, and the road without its traffic made from it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.background import BackgroundBuilder
from headrace_gpu_preprocessor.background.device import Device
from headrace_gpu_preprocessor.video import ClipReader, ClipReport, DecoderPool, ReadLimits

#: Called with the share of the clip that was read, 0 to 1; raises to end the reading.
OnFrame = Callable[[float], None]


@dataclass(frozen=True)
class Clip:
    """A clip's samples, ready to become a background.

    Attributes:
        builder: has the samples.
        report: what was read, and what was missing.
        taken_at: when the first frame came.
        seconds: that reading took.
    """

    builder: BackgroundBuilder
    report: ClipReport
    taken_at: datetime
    seconds: float

    def summary(self) -> dict[str, object]:
        """Return what is told of the clip in `background_meta.json`."""
        report = self.report
        return {
            **asdict(report),
            "short": report.short,
            "whole": report.whole,
            "taken_at": self.taken_at.isoformat(),
        }


def read_clip(
    entry: PreprocessEntry,
    *,
    guard: NetGuard,
    limits: ReadLimits,
    device: Device,
    on_frame: OnFrame,
    decoders: DecoderPool | None = None,
) -> Clip:
    """Read a job's clip.

    Raises:
        HeadraceError: the stream cannot be read, or what `on_frame` raised.
    """
    started = time.monotonic()
    builder = BackgroundBuilder(limits.samples, device=device)
    taken_at: datetime | None = None
    with ClipReader(entry.hls, entry.sec, guard=guard, limits=limits, decoders=decoders) as reader:
        for frame in reader:
            taken_at = taken_at or datetime.now(UTC)
            builder.add(frame.pixels, frame.time)
            on_frame(min(1.0, frame.time / entry.sec))
        report = reader.report
    return Clip(builder, report, taken_at or datetime.now(UTC), time.monotonic() - started)
