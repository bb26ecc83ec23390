"""Reading the reference alignment: a Praat TextGrid, long or short, in any encoding of Praat."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import parselmouth
from parselmouth.praat import call

#: A sentence has some tens of intervals; this bounds what a hostile file can cost.
MOST_INTERVALS: Final = 2_000
_LONGEST_LABEL: Final = 100


class BadTextGridError(Exception):
    """The file is not a TextGrid, or there is nothing in it to compare with."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A labelled stretch of the reference recording, in seconds."""

    label: str
    start: float
    end: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class WordTier:
    """The tier that is compared, without its empty intervals."""

    name: str
    intervals: tuple[Interval, ...]


def read_word_tier(path: Path) -> WordTier:
    """Read the labelled intervals of the tier of words.

    That is the interval tier called `word` or `words`, else the first whose name contains
    `word`, else the first that has labels.

    Raises:
        BadTextGridError: with a readable reason.
    """
    try:
        grid = parselmouth.read(str(path))
    except parselmouth.PraatError as error:
        raise BadTextGridError("Praat cannot read the file as a TextGrid") from error
    if grid.class_name != "TextGrid":
        raise BadTextGridError(f"The file holds a {grid.class_name}, not a TextGrid")
    tiers = [
        WordTier(call(grid, "Get tier name", index), _labelled(grid, index))
        for index in range(1, call(grid, "Get number of tiers") + 1)
        if call(grid, "Is interval tier", index)
    ]
    labelled = sorted((tier for tier in tiers if tier.intervals), key=_preference)
    if not labelled:
        raise BadTextGridError("The TextGrid has no interval tier with labels")
    return labelled[0]


def _preference(tier: WordTier) -> int:
    name = tier.name.strip().casefold()
    if name in {"word", "words"}:
        return 0
    return 1 if "word" in name else 2


def _labelled(grid: parselmouth.Data, tier: int) -> tuple[Interval, ...]:
    count = int(call(grid, "Get number of intervals", tier))
    if count > MOST_INTERVALS:
        raise BadTextGridError(f"The TextGrid has more than {MOST_INTERVALS} intervals in a tier")
    intervals = (_interval(grid, tier, index) for index in range(1, count + 1))
    return tuple(interval for interval in intervals if interval.label)


def _interval(grid: parselmouth.Data, tier: int, index: int) -> Interval:
    return Interval(
        label=str(call(grid, "Get label of interval", tier, index)).strip()[:_LONGEST_LABEL],
        start=float(call(grid, "Get start time of interval", tier, index)),
        end=float(call(grid, "Get end time of interval", tier, index)),
    )
