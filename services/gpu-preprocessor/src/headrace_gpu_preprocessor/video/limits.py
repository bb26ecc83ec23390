"""What reading one clip may cost, and what is handed over."""

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class ReadLimits:
    """Limits of one clip. The guard's own limits hold for each request besides.

    Attributes:
        samples: frames handed over, evenly spread.
        most_pixels: a frame of the stream with more is refused; 4K fits.
        output_pixels: larger frames are handed over smaller, and variants are chosen by it.
        wall_seconds: for everything; None allows the clip's length, which live needs, and 30 s.
        frames_per_second: a stream with more frames in all than this allows is refused.
        memory_bytes: address space of the decoder beyond its start.
        playlist_bytes: of one playlist.
        segment_bytes: of one segment.
        total_bytes: of everything.
        file_bytes: of a plain video file; the guard's own limit of a request holds as well.
        frozen_seconds: a live playlist without new segments for so long has frozen; at least
            three of its target durations are allowed.
        faults: failed segments and playlist loads, after which the stream is given up.
        min_coverage: share of the clip below which what was read is no clip.
    """

    samples: int = 50
    most_pixels: int = 4096 * 2304
    output_pixels: int = 1920 * 1088
    wall_seconds: float | None = None
    frames_per_second: int = 130
    memory_bytes: int = 1024 * _MIB
    playlist_bytes: int = 2 * _MIB
    segment_bytes: int = 64 * _MIB
    total_bytes: int = 1024 * _MIB
    file_bytes: int = 256 * _MIB
    frozen_seconds: float = 12.0
    faults: int = 3
    min_coverage: float = 0.5

    def wall_limit(self, seconds: float) -> float:
        """Return the wall-clock limit of a clip of so many seconds."""
        return self.wall_seconds if self.wall_seconds is not None else seconds + 30


#: Never more than this many samples: the background's counters are bytes.
MAX_SAMPLES: Final = 255
