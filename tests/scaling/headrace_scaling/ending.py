"""The end of a replica in the midst of its work, and who does that instead."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from headrace_local.waiting import wait_until
from headrace_scaling.doings import twice
from headrace_scaling.outcomes import HandOver
from headrace_scaling.trial import Trial

_BATCH_SECONDS: Final = 180.0
#: A replica ends when so much of every batch is done.
_END_AT: Final = 0.3


@dataclass
class Ending:
    """Of the youngest replica of a service.

    Attributes:
        trials: of the service; each has a batch under way.
        kill: whether it is killed, and not started again; else it stops in good order.
    """

    trials: Sequence[Trial]
    kill: bool

    def begin(self) -> None:
        """Have the replicas begin, and end one."""
        first = self.trials[0].work
        fleet, service = first.scene.fleet, first.service
        running = fleet.running(service)
        self._replicas, self._victim = len(running), running[-1]
        self._pool = ThreadPoolExecutor(len(self.trials), "feed")
        self._feeding: list[Future[Sequence[str]]] = []
        for trial in self.trials:
            trial.work.logbook.mark()
            self._feeding.append(self._pool.submit(trial.work.feed, trial.pieces(len(running))))
        for trial in self.trials:
            _await_share(trial, _END_AT * trial.pieces(len(running)))
        self._at = time.time()
        if self.kill:
            fleet.lose(service, self._victim)
        else:
            fleet.stop(service, self._victim)
        self._gone = time.time()

    def finish(self) -> None:
        """Wait until all is done, and note by whom and when."""
        for trial, feeding in zip(self.trials, self._feeding, strict=True):
            self._note(trial, feeding.result())
        self._pool.shutdown()

    def _note(self, trial: Trial, items: Sequence[str]) -> None:
        lost = trial.settle(items)
        doings = trial.doings(items)
        effects = trial.work.effects(items)
        handed = set(trial.work.handed_over(items, self._victim))
        last = max((doing.at for doing in doings if doing.item in handed), default=self._at)
        found = HandOver(
            killed=self.kill,
            replicas=self._replicas,
            handed=len(handed),
            seconds=max(0.0, last - self._at),
            gone_seconds=self._gone - self._at,
            twice=max(len(twice(doings)), effects - len(items)),
            lost=max(lost, len(items) - effects),
        )
        trial.hand_overs.append(found)
        trial.tell(found)


def _await_share(trial: Trial, pieces: float) -> None:
    wait_until(lambda: len(trial.work.doings()) >= pieces, seconds=_BATCH_SECONDS)
