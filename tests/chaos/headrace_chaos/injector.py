"""Makes the planned faults happen, and measures how long each takes to recover from."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from headrace_chaos.canary import Canaries
from headrace_chaos.faults import Fault
from headrace_chaos.ledger import Ledger
from headrace_chaos.schedule import FaultKind, PlannedFault
from headrace_chaos.stack import ChaosStack

#: Two faults at a time show what none alone does; more show only that nothing works.
_AT_ONCE: Final = 2
#: A process that was hit before gets so long to come back; then it is passed over.
_READY_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1

_log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What became of one fault.

    Attributes:
        planned: the fault.
        happened: whether it could: its target may not have come back from the one before.
        began: seconds after the start of the run.
        ended: likewise.
        recovery: seconds from its end until a job that was sent then was completed; None if that
            was given up.
    """

    planned: PlannedFault
    happened: bool
    began: float
    ended: float
    recovery: float | None


class Injector:
    """Runs a schedule of faults in threads of its own."""

    def __init__(
        self,
        stack: ChaosStack,
        ledger: Ledger,
        canaries: Canaries,
        schedule: Sequence[PlannedFault],
        *,
        tell: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """Make it.

        Args:
            stack: gets the faults.
            ledger: see `Fault`.
            canaries: measure.
            schedule: the faults, in order.
            tell: gets each outcome as it is known, from any thread.
        """
        self.outcomes: list[Outcome] = []
        self._stack = stack
        self._ledger = ledger
        self._canaries = canaries
        self._schedule = schedule
        self._tell = tell
        self._places = threading.Semaphore(_AT_ONCE)
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._began = 0.0
        self._main = threading.Thread(target=self._run, name="injector", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        self._main.start()

    def stop(self) -> None:
        """Begin no further fault."""
        self._stopping.set()

    def wait(self) -> None:
        """Wait until every fault has ended and was recovered from, or given up."""
        self._main.join()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        for planned in self._schedule:
            if self._stopping.wait(max(0.0, planned.at - self._now())):
                return
            self._places.acquire()
            self._take(planned.target)
            thread = threading.Thread(
                target=self._happen, args=[planned], name=f"fault-{planned.number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _take(self, target: str) -> None:
        """Wait until nothing else happens to a target, and keep it."""
        with self._changed:
            self._changed.wait_for(lambda: target not in self._busy)
            self._busy.add(target)

    def _give_back(self, target: str) -> None:
        with self._changed:
            self._busy.discard(target)
            self._changed.notify_all()
        self._places.release()

    def _happen(self, planned: PlannedFault) -> None:
        fault = Fault(planned, self._stack, self._ledger)
        began = self._now()
        try:
            happened = self._wait_ready(planned) and self._until_end(fault)
        finally:
            self._give_back(planned.target)
        ended = self._now()
        recovery = self._canaries.fly(camera=planned.affects_cameras) if happened else None
        outcome = Outcome(planned, happened, began, ended, recovery)
        self.outcomes.append(outcome)
        self._tell(outcome)

    def _until_end(self, fault: Fault) -> bool:
        _log.info("chaos.fault", fault=str(fault.planned))
        try:
            happened = fault.begin()
            self._stopping.wait(fault.planned.seconds)
        finally:
            fault.end()
        return happened

    def _wait_ready(self, planned: PlannedFault) -> bool:
        """Wait until a process is there to be hit; proxies always are."""
        if planned.kind not in {FaultKind.KILL, FaultKind.RESTART, FaultKind.FREEZE}:
            return True
        deadline = time.monotonic() + _READY_SECONDS
        while not self._stack.is_ready(planned.target):
            if time.monotonic() > deadline or self._stopping.wait(_POLL_SECONDS):
                return False
        return True
