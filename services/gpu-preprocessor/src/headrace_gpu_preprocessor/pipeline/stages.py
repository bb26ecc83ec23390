"""How far a job is at each stage, in per cent of its work."""

from dataclasses import dataclass
from typing import Final

from headrace_common.contracts.cctv import Stage


@dataclass(frozen=True)
class Span:
    """Per cent at the beginning and the end of a stage."""

    begin: float
    end: float

    def at(self, share: float) -> float:
        """Return the per cent at a share of the stage, 0 to 1."""
        return self.begin + (self.end - self.begin) * min(max(share, 0.0), 1.0)


#: Reading takes as long as the clip, where the stream is live; the others take seconds.
SPANS: Final[dict[Stage, Span]] = {
    Stage.READING: Span(0, 70),
    Stage.BACKGROUND: Span(70, 78),
    Stage.DETECTING: Span(78, 88),
    Stage.UPLOADING: Span(88, 100),
}
