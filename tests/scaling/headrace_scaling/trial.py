"""Trying how a Deployment scales: batches for more and more replicas."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from headrace_scaling.doings import Doing, fairness, rate, shares, twice
from headrace_scaling.outcomes import Batch, HandOver, Row
from headrace_scaling.work import Work

_BATCH_SECONDS: Final = 180.0
#: The line in a log comes just after the effect; that of a replica that was killed, never.
_LINE_SECONDS: Final = 2.0


class Trial:
    """One kind of work on one Deployment."""

    def __init__(self, work: Work, say: Callable[[str], None], *, size: float = 1) -> None:
        """Make it; nothing is tried yet.

        Args:
            work: what to try it with.
            say: told of each result.
            size: of batches, as part of the usual.
        """
        self.work = work
        self._each = max(1, round(size * work.each))
        self._say = say
        self.batches: list[Batch] = []
        self.hand_overs: list[HandOver] = []

    def pieces(self, replicas: int) -> int:
        """Return how many pieces a batch for so many replicas has."""
        return self._each * replicas

    def batch(self) -> None:
        """Let the replicas that run now do a batch."""
        work, fleet = self.work, self.work.scene.fleet
        running = fleet.running(work.service)
        work.logbook.mark()
        begin = time.time()
        items = work.feed(self.pieces(len(running)))
        lost = self.settle(items)
        doings = self.doings(items)
        effects = work.effects(items)
        parts = shares(doings, running)
        batch = Batch(
            replicas=len(running),
            pieces=len(items),
            rate=rate(doings, since=begin if work.is_timed_whole else None),
            shares=tuple(parts.values()),
            fairness=fairness(list(parts.values())),
            twice=max(len(twice(doings)), effects - len(items)),
            lost=max(lost, len(items) - effects),
        )
        self.batches.append(batch)
        self.tell(batch)

    def tell(self, found: Batch | HandOver) -> None:
        """Say what was found."""
        self._say(f"{self.work.deployment}, {self.work.what}: {found}")

    def row(self) -> Row:
        """Return what was found."""
        work = self.work
        return Row(
            deployment=work.deployment,
            what=work.what,
            cores=work.cores,
            settled_by=work.settled_by,
            is_once=work.is_once,
            batches=tuple(self.batches),
            hand_overs=tuple(self.hand_overs),
        )

    def settle(self, items: Sequence[str]) -> int:
        """Wait until all is done, and return what is not."""
        until = time.monotonic() + _BATCH_SECONDS
        while (left := self.work.unfinished(items)) and time.monotonic() < until:
            time.sleep(0.1)
        until = time.monotonic() + _LINE_SECONDS
        while len(self.work.doings()) < len(items) - left and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def doings(self, items: Sequence[str]) -> list[Doing]:
        """Return who did which of these pieces."""
        wanted = set(items)
        return [doing for doing in self.work.doings() if doing.item in wanted]
