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
        """Seconds from the first frame to the end of the last, gaps included."""
        return 0.0 if self._last_stamp is None else self._now + self.frame_seconds

    @property
    def covered(self) -> float:
        """Seconds of which there are pictures."""
        return self.span - sum(length for _, length in self.gaps)

    @property
    def complete(self) -> bool:
        """Whether the clip is as long as it should be, to half a frame."""
        return self.span >= self.seconds - self.frame_seconds / 2

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

    def wants(self, time: float) -> bool:
        """Return whether the frame at this clip time is one of the samples; ask once for each."""
        step = self.seconds / self.samples
        if time >= self.seconds or time < self._next_sample * step - 1e-9:
            return False
        self._next_sample = int(time / step + 1e-9) + 1
        return True
