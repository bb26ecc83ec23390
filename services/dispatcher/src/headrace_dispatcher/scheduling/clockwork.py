"""The alarm clock of the leader: APScheduler tells which schedules come due, to the millisecond.

It holds only what comes due within seconds, in memory, and decides nothing: what fires is what the
database says is due. APScheduler goes by this process's clock, so that every time is corrected by
what that clock is off from the database's, and corrected anew when it jumps.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobEvent,
)
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from headrace_dispatcher.scheduling.metrics import TIMER_FAULTS

#: Rather so much late than early, which would be to look twice.
_MARGIN: Final = timedelta(milliseconds=2)
#: A clock that is off by so much more than before has jumped; less is the way to the database.
_JUMP: Final = timedelta(milliseconds=25)
_FAULTS: Final = {
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "max_instances",
    EVENT_JOB_ERROR: "error",
}
_EXECUTOR: Final = "leader"


class Clockwork:
    """An alarm clock for many schedules. All but `wake` is for one thread."""

    def __init__(self) -> None:
        """Make it; it runs within its `with` block."""
        self._rung: SimpleQueue[str | None] = SimpleQueue()
        self._collector = _Collector(self._rung)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={_EXECUTOR: self._collector},
            # Late is late: by how much is judged by the database's clock, for each schedule.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(_count_fault, sum(_FAULTS))
        self._alarms: dict[str, datetime] = {}
        self._ahead = timedelta(0)

    def __enter__(self) -> Self:
        """Start APScheduler's thread."""
        # It tells of every alarm that is set, and of every one that rings.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._scheduler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._scheduler.shutdown(wait=False)

    def tell_time(self, database_now: datetime, own_now: datetime) -> None:
        """Say what the database's clock shows while this process's shows `own_now`."""
        before, self._ahead = self._ahead, database_now - own_now
        if abs(self._ahead - before) >= _JUMP:
            for key, due_at in self._alarms.items():
                self._set(key, due_at)

    def set(self, alarms: Mapping[str, datetime]) -> None:
        """Ring for each schedule, by its id, when its time has come by the database's clock."""
        for key, due_at in alarms.items():
            # What has rung and was not heard yet is still among the alarms.
            if self._alarms.get(key) != due_at:
                self._alarms[key] = due_at
                self._set(key, due_at)

    def wait(self, *, timeout_seconds: float) -> dict[str, datetime]:
        """Wait until something rings, somebody wakes us, or the time is over.

        Returns:
            What rang, with the time that it was set to.
        """
        rung: dict[str, datetime] = {}
        try:
            self._hear(self._rung.get(timeout=max(timeout_seconds, 0.0)), rung)
            while True:
                self._hear(self._rung.get_nowait(), rung)
        except Empty:
            return rung

    def wake(self) -> None:
        """End the wait under way, from any thread."""
        self._rung.put(None)

    def _hear(self, key: str | None, rung: dict[str, datetime]) -> None:
        if key is None:
            return
        self._collector.done(key)
        due_at = self._alarms.pop(key, None)
        if due_at is not None:
            rung[key] = due_at

    def _set(self, key: str, due_at: datetime) -> None:
        self._scheduler.add_job(
            _ring,
            DateTrigger(due_at - self._ahead + _MARGIN),
            id=key,
            executor=_EXECUTOR,
            replace_existing=True,
        )


class _Collector(BaseExecutor):  # type: ignore[misc] # APScheduler has no types
    """An executor that runs nothing: it hands over what came due to who waits for it."""

    def __init__(self, rung: SimpleQueue[str | None]) -> None:
        super().__init__()
        self._rung = rung

    def done(self, key: str) -> None:
        """Note that what came due was heard."""
        self._run_job_success(key, [])

    def _do_submit_job(self, job: Job, _run_times: list[datetime]) -> None:
        self._rung.put(job.id)


def _ring() -> None:
    """Stands for what a job does; nobody calls it."""


def _count_fault(event: JobEvent) -> None:
    TIMER_FAULTS.labels(event=_FAULTS[event.code]).inc()
