"""What one job needs, learned from what jobs needed."""

from dataclasses import dataclass, replace
from typing import Final, Self

#: Of the way from the estimate down to a smaller measurement, each job goes so much.
_DECAY: Final = 0.1
#: A measurement is believed with a margin: allocators fragment, and videos differ.
_MARGIN: Final = 1.1


@dataclass(frozen=True)
class Estimate:
    """Memory that a job of one kind is expected to need.

    Attributes:
        need_bytes: what is put aside for it.
        samples: jobs that it was learned from.
    """

    need_bytes: int
    samples: int = 0

    def learned(self, peak_bytes: int, *, alone: bool) -> Self:
        """Return the estimate after a job.

        It grows at once, so that what ran out once is not tried again the same way, and falls
        slowly, because a small job says little about the next.

        Args:
            peak_bytes: most that the job used, or its share where several ran.
            alone: whether nothing else ran: a share of a common peak may hide a larger job, so
                it never lowers the estimate.
        """
        wanted = int(peak_bytes * _MARGIN)
        if wanted >= self.need_bytes:
            return replace(self, need_bytes=wanted, samples=self.samples + 1)
        if not alone:
            return self
        # The first measurement replaces what was only guessed, but for a half of it.
        decay = _DECAY if self.samples else 0.5
        need = self.need_bytes - int((self.need_bytes - wanted) * decay)
        return replace(self, need_bytes=need, samples=self.samples + 1)
