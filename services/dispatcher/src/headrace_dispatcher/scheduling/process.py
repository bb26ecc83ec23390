"""The scheduler of a process: stands by, leads, and stands by again. Any number may run."""

import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.db import Database
from headrace_common.repeat import Repeater
from headrace_common.web import Check
from headrace_dispatcher.scheduling.election import DeposedError, Election, Term
from headrace_dispatcher.scheduling.leading import AtElection, Leading
from headrace_dispatcher.scheduling.measuring import Measuring
from headrace_dispatcher.scheduling.metrics import IS_LEADER
from headrace_dispatcher.scheduling.settings import SchedulerSettings

log = structlog.get_logger()

#: How often a follower tries to lead, and one that has lost the database tries to reach it.
_CAMPAIGN_SECONDS: Final = 1.0
#: A loop that has not come round for so long hangs: longer than all time-outs within it.
_HANGS_AFTER_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0


class Scheduler:
    """Leads the schedules, or stands by, in a thread of its own."""

    def __init__(
        self,
        database: Database,
        broker: RedisBroker,
        settings: SchedulerSettings,
        *,
        at_election: Sequence[AtElection] = (),
        holder: str | None = None,
    ) -> None:
        """Make it; nothing runs before `start`.

        Args:
            database: that has the schedules.
            broker: that messages are sent over.
            settings: roles and time limits.
            at_election: done at the beginning of each term, in a transaction of the leader.
            holder: name of this process, for people; host and process id unless given.
        """
        self._broker = broker
        self._settings = settings
        self._at_election = at_election
        self._election = Election(
            database,
            holder=holder or f"{socket.gethostname()}:{os.getpid()}",
            lease_seconds=settings.scheduler_lease_seconds,
        )
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._stopping = threading.Event()
        self._pulse = time.monotonic()
        self._leading: Leading | None = None
        self._epoch: int | None = None
        self._fault: str | None = None
        self.measuring = Repeater("scheduler_figures", Measuring(database).step)

    @property
    def epoch(self) -> int | None:
        """Number of the term in which this process leads; None while it does not."""
        return self._epoch

    def start(self) -> None:
        """Start standing by, if this process may lead."""
        self.measuring.start()
        if self._settings.may_lead:
            self._thread.start()

    def stop(self) -> None:
        """Hand over: another leads within about a second."""
        self._stopping.set()
        self.measuring.ask_to_stop()
        leading = self._leading
        if leading is not None:
            leading.wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self.measuring.join(timeout_seconds=_STOP_SECONDS)

    def checks(self) -> list[Check]:
        """Return the checks of what must run in this process."""
        return [
            Check("scheduler_loop", self._check_alive),
            Check("scheduler_figures", self.measuring.check_alive),
        ]

    def check(self) -> str:
        """Say what it does.

        Raises:
            RuntimeError: the last step failed, so that it neither leads nor can begin to.
        """
        if not self._settings.may_lead:
            return "never leads"
        if self._fault is not None:
            raise RuntimeError(self._fault)
        seconds = time.monotonic() - self._pulse
        role = "stands by" if self._epoch is None else f"leads in epoch {self._epoch}"
        return f"{role}, looked {seconds:.0f} s ago"

    def _check_alive(self) -> None:
        if not self._settings.may_lead:
            return
        seconds = time.monotonic() - self._pulse
        if not self._thread.is_alive() or seconds > _HANGS_AFTER_SECONDS:
            raise RuntimeError(f"the scheduler has not come round for {seconds:.0f} s")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._pulse = time.monotonic()
            try:
                term = self._election.campaign()
                self._fault = None
                if term is not None:
                    self._lead(term)
            except (SQLAlchemyError, psycopg.Error, DeposedError) as error:
                self._lost(error)
            except Exception as error:
                # A mistake of ours must not end the thread: another process may do better.
                log.exception("scheduler.failed")
                self._lost(error)
            self._stopping.wait(_CAMPAIGN_SECONDS)
        self._election.resign()

    def _lead(self, term: Term) -> None:
        self._epoch = term.epoch
        IS_LEADER.set(1)
        try:
            with Leading(term, self._broker, self._settings, self._at_election) as leading:
                self._leading = leading
                while not self._stopping.is_set():
                    self._pulse = time.monotonic()
                    leading.turn()
        finally:
            self._leading, self._epoch = None, None
            IS_LEADER.set(0)

    def _lost(self, error: Exception) -> None:
        self._fault = f"{type(error).__name__}: {error}"
        log.warning("scheduler.stepped_down", error=self._fault[:500])
        self._election.resign()
