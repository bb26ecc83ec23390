"""The house-keeping that a service performs: a worker of its own, told by the built-in schedules.

The worker and its broker are beside those of the service's other messages, so that neither keeps
the other waiting. What a chore does not get done in one shift is done in the next.
"""

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from headrace_common.broker import make_broker
from headrace_common.contracts.schedules import TargetContract
from headrace_common.db.engine import Database
from headrace_common.firings import Chore, Firings, declare_chores
from headrace_common.settings import RedisSettings
from headrace_common.shifts import Shift, Shifts
from headrace_common.worker import EmbeddedWorker

#: Longest time of one chore. A schedule whose last firing runs does not fire.
SHIFT_SECONDS: Final = 60.0
#: One that takes long keeps none of the others waiting.
_THREADS: Final = 2

#: What a piece of house-keeping does within a shift; returns what it did, in numbers mostly.
ShiftChore = Callable[[Shift], Mapping[str, JsonValue]]


class ChoreWorker:
    """Performs the house-keeping of one service."""

    def __init__(
        self,
        settings: RedisSettings,
        database: Database,
        chores: Mapping[TargetContract, ShiftChore],
    ) -> None:
        """Make it; nothing is performed before `start`.

        Args:
            settings: where the messages are.
            database: where the firings are.
            chores: what to do, by its contract; each is safe to run twice, and beside itself.
        """
        self._shifts = Shifts(seconds=SHIFT_SECONDS)
        self._broker = make_broker(settings)
        dead_after = settings.dramatiq_heartbeat_timeout_seconds
        queues = declare_chores(
            self._broker,
            Firings(database, dead_after_seconds=dead_after),
            {contract: self._in_shift(chore) for contract, chore in chores.items()},
        )
        self._worker = EmbeddedWorker(self._broker, queues=queues, threads=_THREADS)

    def start(self) -> None:
        """Start performing."""
        self._worker.start()

    def check(self) -> None:
        """Check that every thread lives.

        Raises:
            RuntimeError: the worker has not started, or a thread of it has died.
        """
        self._worker.check()

    def ask_to_stop(self) -> None:
        """Let what is under way come to its end soon."""
        self._shifts.ask_to_stop()

    def stop(self, *, grace_seconds: float) -> None:
        """Finish what is under way, and close the connections."""
        self.ask_to_stop()
        self._worker.stop(grace_seconds=grace_seconds)
        self._broker.close()

    def _in_shift(self, chore: ShiftChore) -> Chore:
        return lambda: chore(self._shifts.begin())
