"""Trying how a Deployment scales: batches for more and more replicas, then the end of one."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from headrace_local.waiting import wait_until
from headrace_scaling.doings import Doing, fairness, rate, shares, twice
from headrace_scaling.outcomes import Batch, HandOver, Row
from headrace_scaling.work import Work

_BATCH_SECONDS: Final = 180.0
#: The line in a log comes just after the effect; that of a replica that was killed, never.
_LINE_SECONDS: Final = 2.0
#: A replica ends when so much of a batch is done.
_END_AT: Final = 0.3


class Trial:
    """One kind of work on one Deployment."""

    def __init__(self, work: Work, say: Callable[[str], None]) -> None:
        """Try `work`, and tell of each result."""
        self.work = work
        self._say = say
        self._batches: list[Batch] = []
        self._hand_overs: list[HandOver] = []

    def batch(self) -> None:
        """Let the replicas that run now do a batch."""
        work, fleet = self.work, self.work.scene.fleet
        running = fleet.running(work.service)
        work.scene.logbook.mark()
        items = work.feed(work.each * len(running))
        lost = self._settle(items)
        doings = self._doings(items)
        effects = work.effects(items)
        parts = shares(doings, running)
        batch = Batch(
            replicas=len(running),
            pieces=len(items),
            rate=rate(doings),
            shares=tuple(parts.values()),
            fairness=fairness(list(parts.values())),
            twice=max(len(twice(doings)), effects - len(items)),
            lost=max(lost, len(items) - effects),
        )
        self._batches.append(batch)
        self._say(f"{work.deployment}, {work.what}: {batch}")

    def hand_over(self, *, kill: bool) -> None:
        """End the youngest of the replicas that run in the midst of a batch."""
        work, fleet = self.work, self.work.scene.fleet
        running = fleet.running(work.service)
        victim, count = running[-1], work.each * len(running)
        work.scene.logbook.mark()
        with ThreadPoolExecutor(1, "feed") as pool:
            feeding = pool.submit(work.feed, count)
            wait_until(lambda: len(work.doings()) >= _END_AT * count, seconds=_BATCH_SECONDS)
            at = time.time()
            if kill:
                fleet.lose(work.service, victim)
            else:
                fleet.stop(work.service, victim)
            gone = time.time()
            items = feeding.result()
        lost = self._settle(items)
        doings = self._doings(items)
        effects = work.effects(items)
        handed = set(work.handed_over(items, victim))
        last = max((doing.at for doing in doings if doing.item in handed), default=at)
        self._hand_overs.append(
            hand_over := HandOver(
                killed=kill,
                handed=len(handed),
                seconds=max(0.0, last - at),
                gone_seconds=gone - at,
                twice=max(len(twice(doings)), effects - len(items)),
                lost=max(lost, len(items) - effects),
            )
        )
        self._say(f"{work.deployment}, {work.what}: {hand_over}")

    def row(self) -> Row:
        """Return what was found."""
        work = self.work
        return Row(
            deployment=work.deployment,
            what=work.what,
            cores=work.cores,
            settled_by=work.settled_by,
            is_once=work.is_once,
            batches=tuple(self._batches),
            hand_overs=tuple(self._hand_overs),
        )

    def _settle(self, items: Sequence[str]) -> int:
        """Wait until all is done, and return what is not."""
        until = time.monotonic() + _BATCH_SECONDS
        while (left := self.work.unfinished(items)) and time.monotonic() < until:
            time.sleep(0.1)
        until = time.monotonic() + _LINE_SECONDS
        while len(self.work.doings()) < len(items) - left and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def _doings(self, items: Sequence[str]) -> list[Doing]:
        wanted = set(items)
        return [doing for doing in self.work.doings() if doing.item in wanted]
