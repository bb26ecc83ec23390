"""The house-keeping that a dispatcher performs, and the worker that is told to."""

from datetime import timedelta
from typing import Final

from headrace_common.broker import make_broker
from headrace_common.contracts.schedules import RECOVER_JOBS, TIDY_RECORDS
from headrace_common.db import Database
from headrace_common.firings import Firings, declare_chores
from headrace_common.shifts import Shifts
from headrace_common.worker import EmbeddedWorker
from headrace_dispatcher.chores.records import Records, Retention
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.sweep import Sweep

#: Longest time of one chore; what is left is done by the next. Far below FIRING_TIMEOUT_SECONDS.
_SHIFT_SECONDS: Final = 60.0
#: A long one of one kind keeps none of the other waiting.
_THREADS: Final = 2


class Chores:
    """Performs what the built-in schedules of the dispatcher fire at."""

    def __init__(self, database: Database, sweep: Sweep, settings: DispatcherSettings) -> None:
        """Put the parts together; nothing is performed before `start`."""
        self._sweep = sweep
        self._interval_seconds = settings.sweep_interval_seconds
        self._shifts = Shifts(seconds=_SHIFT_SECONDS)
        retention = Retention(
            audit=settings.audit_retention,
            firings=settings.firing_retention,
            letters=timedelta(days=settings.dead_letter_retention_days),
            keys=settings.idempotency_key_lifetime,
            reports=settings.job_retention,
        )
        self.records = Records(database, retention)
        dead_after = settings.dramatiq_heartbeat_timeout_seconds
        # Worker and broker of their own: lanes that are full or shut keep no recovery waiting.
        self._broker = make_broker(settings)
        queues = declare_chores(
            self._broker,
            Firings(database, dead_after_seconds=dead_after),
            {
                RECOVER_JOBS: lambda: sweep.run(self._shifts.begin()),
                TIDY_RECORDS: lambda: self.records.tidy(self._shifts.begin()),
            },
        )
        self.worker = EmbeddedWorker(self._broker, queues=queues, threads=_THREADS)

    def sweep(self) -> float:
        """Sweep by itself, as long as no schedule fires; return the seconds until the next time."""
        self._sweep.run(self._shifts.begin())
        return self._interval_seconds

    def start(self) -> None:
        """Start performing."""
        self.worker.start()

    def ask_to_stop(self) -> None:
        """Let what is under way come to its end soon."""
        self._shifts.ask_to_stop()

    def stop(self, *, grace_seconds: float) -> None:
        """Finish what is under way, and close the connections."""
        self.ask_to_stop()
        self.worker.stop(grace_seconds=grace_seconds)
        self._broker.close()
