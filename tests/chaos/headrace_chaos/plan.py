"""What the workload is going to do, all of it chosen from the seed before anything begins."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headrace_chaos.recordings import Cut, cut
from headrace_common.contracts import Lane


class Way(StrEnum):
    """How a job comes in."""

    UPLOAD = "upload"
    DIRECT = "direct"  #: in parts, straight to S3
    CAMERA = "camera"  #: over HTTP
    STREAM = "stream"  #: a camera's job that is added to the stream, as the Java producer does


class DirectEnd(StrEnum):
    """What becomes of a direct upload."""

    COMPLETE = "complete"
    ABORT = "abort"  #: its client gives it up
    ABANDON = "abandon"  #: its client is never heard of again


#: Items of the references that recordings imitate; the first has none.
TOKENS: Final = ("plain", "textgrid", "both")
_LANES: Final = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
_LANE_WEIGHTS: Final = (2, 5, 3)
_LONGEST_DELAY_SECONDS: Final = 8.0
_DIRECT_ENDS: Final = tuple(DirectEnd)
_DIRECT_END_WEIGHTS: Final = (7, 2, 1)


@dataclass(frozen=True)
class Shares:
    """Which part of the jobs has what, 0 to 1."""

    camera: float = 0.05
    direct: float = 0.03
    twice: float = 0.06
    cancel: float = 0.10
    retry: float = 0.03
    follow: float = 0.05
    replay: float = 0.04
    too_short: float = 0.03
    later: float = 0.05


@dataclass(frozen=True)
class PlannedJob:
    """One job, and what is done to it.

    Attributes:
        item: its number.
        due: seconds after the start at which it is sent.
        token: of TOKENS.
        cut: the recording, of which a camera's job needs none.
        twice: it is sent twice at the same time, by the same key or as the same entry.
        cancel_after: seconds from its acceptance to a cancel.
        retry: it is done anew.
        retry_after: seconds from its acceptance to that; None: once it has ended.
        follow: somebody follows it.
        replay: its reports come once more after its end.
        too_short: it is taken in and cannot be analysed.
        delay: seconds from its acceptance to its beginning; None: at once.
    """

    item: int
    due: float
    way: Way
    lane: Lane
    token: str
    cut: Cut
    twice: bool
    cancel_after: float | None
    retry: bool
    retry_after: float | None
    direct_end: DirectEnd
    follow: bool
    replay: bool
    too_short: bool
    delay: float | None

    @property
    def begin(self) -> dict[str, str]:
        """When it is to begin, as the API takes it."""
        return {} if self.delay is None else {"delay": f"{self.delay:.3f}"}

    @property
    def is_camera(self) -> bool:
        """Whether a camera is looked at."""
        return self.way in (Way.CAMERA, Way.STREAM)


def make_plan(
    seed: int, *, jobs: int, seconds: float, shares: Shares | None = None
) -> list[PlannedJob]:
    """Choose everything from the seed.

    Args:
        seed: the same gives the same plan.
        jobs: how many.
        seconds: over which they are spread evenly.
        shares: of what.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan is no secret
    return [
        _job(chance, item, item * seconds / max(jobs, 1), shares or Shares())
        for item in range(jobs)
    ]


def _job(chance: random.Random, item: int, due: float, shares: Shares) -> PlannedJob:
    """Draw the same numbers for every job, so that a share changes only what it is of."""
    way = _way(chance.random(), chance.random(), shares)
    dice = {name: chance.random() for name in ("twice", "fate", "follow", "too_short", "early")}
    delay = chance.random() ** 2 * _LONGEST_DELAY_SECONDS
    camera = way in (Way.CAMERA, Way.STREAM)
    too_short = dice["too_short"] < shares.too_short and way is Way.UPLOAD
    fate = dice["fate"]
    cancelled = fate < shares.cancel
    retried = not cancelled and fate < shares.cancel + shares.retry
    replayed = not (cancelled or retried) and fate < shares.cancel + shares.retry + shares.replay
    lane = chance.choices(_LANES, _LANE_WEIGHTS)[0]
    waits, later = chance.random() * _LONGEST_DELAY_SECONDS, chance.random() < shares.later
    later = later and not camera
    return PlannedJob(
        item=item,
        due=due,
        way=way,
        lane=lane,
        token=chance.choice(TOKENS),
        cut=cut(chance, too_short=too_short),
        twice=dice["twice"] < shares.twice and way is not Way.DIRECT,
        cancel_after=delay if cancelled else None,
        retry=retried,
        # Who asks for one that has not begun gets its first run, and so no other number.
        retry_after=delay if dice["early"] < 0.5 and not later else None,
        direct_end=chance.choices(_DIRECT_ENDS, _DIRECT_END_WEIGHTS)[0],
        follow=dice["follow"] < shares.follow and way is not Way.STREAM,
        replay=replayed and not camera and not too_short,
        too_short=too_short,
        delay=waits if later else None,
    )


def _way(first: float, second: float, shares: Shares) -> Way:
    if first < shares.camera:
        return Way.CAMERA if second < 0.5 else Way.STREAM
    return Way.DIRECT if first < shares.camera + shares.direct else Way.UPLOAD
