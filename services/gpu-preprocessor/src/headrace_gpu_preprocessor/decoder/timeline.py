"""Places frames on the clip's own time: hostile time stamps in, a steady clock and gaps out."""

from dataclasses import dataclass, field
from typing import Final

#: A longer jump forward is a new timeline (a discontinuity), not missing pictures.
MAX_GAP_SECONDS: Final = 30.0
#: Pictures missing for less than this are jitter.
MIN_GAP_SECONDS: Final = 0.5
#: A camera with few pictures a second has no gap at each of them.
MIN_GAP_FRAMES: Final = 3
_DEFAULT_RATE: Final = 25.0
#: Times are sums of many steps, and not exact. Seconds.
_EPSILON: Final = 1e-6


@dataclass
class Timeline:
    """Clip time of each frame, counted from the first.

    Attributes:
        seconds: how long the clip should be.
        samples: how many frames of it are wanted, evenly spread.
        rate: frames per second that the stream claims, 0 for unknown.
        gaps: where pictures are missing, as clip time and length in seconds.
        discontinuities: how often the stream's own clock jumped.
    """

    seconds: float
    samples: int
    rate: float
    gaps: list[tuple[float, float]] = field(default_factory=list)
    discontinuities: int = 0
    _last_stamp: float | None = None
    _now: float = 0.0
    _next_sample: int = 0

    @property
    def frame_seconds(self) -> float:
        """How long one frame stands."""
        return 1 / (self.rate if 0.1 <= self.rate <= 240 else _DEFAULT_RATE)

    @property
    def span(self) -> float:
        """Seconds from the first frame to the end of the last, gaps included; of the clip only."""
        return 0.0 if self._last_stamp is None else min(self._end, self.seconds)

    @property
    def covered(self) -> float:
        """Seconds of which there are pictures."""
        return self.span - sum(min(length, max(0.0, self.seconds - at)) for at, length in self.gaps)

    @property
    def complete(self) -> bool:
        """Whether the clip is as long as it should be, to half a frame."""
        return self._last_stamp is not None and self._end >= self.seconds - self.frame_seconds / 2

    @property
    def _end(self) -> float:
        return self._now + self.frame_seconds

    def place(self, stamp: float | None) -> float:
        """Return the clip time of the next frame.

        Args:
            stamp: its presentation time in the stream's own seconds, where it has one.
        """
        if self._last_stamp is None:
            self._last_stamp = stamp or 0.0
            return self._now
        step = self.frame_seconds if stamp is None else stamp - self._last_stamp
        self._last_stamp += step
        if not 0 < step <= MAX_GAP_SECONDS:
            self.discontinuities += 1
            step = self.frame_seconds
        elif step > max(MIN_GAP_SECONDS, MIN_GAP_FRAMES * self.frame_seconds):
            self.gaps.append((round(self._now + self.frame_seconds, 3), step - self.frame_seconds))
        self._now += step
        return self._now

    def expect(self, stamp: float) -> None:
        """Take the next frame's stamp as just following, where those before it had none."""
        self._last_stamp = stamp - self.frame_seconds

    def wants(self, time: float) -> bool:
        """Return whether the frame at this clip time is one of the samples; ask once for each."""
        step = self.seconds / self.samples
        if time < self._next_sample * step - _EPSILON or time > self.seconds - _EPSILON:
            return False
        self._next_sample = int((time + _EPSILON) / step) + 1
        return True
