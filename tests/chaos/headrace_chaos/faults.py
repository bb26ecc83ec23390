"""Faults as they happen to a stack: each begins and ends, and can be ended twice."""

import time
from typing import Any, Final

import redis
import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from headrace_chaos.ledger import Entry, Ledger
from headrace_chaos.looking_database import open_database
from headrace_chaos.looking_queues import redis_of
from headrace_chaos.schedule import FaultKind, PlannedFault
from headrace_chaos.stack import ChaosStack
from headrace_common.contracts.cctv import DEFAULT_STREAM
from headrace_common.db.models import Job
from headrace_local.errors import LocalStackError

_log = structlog.get_logger()

_FLUSH_TRIES: Final = 20


class Fault:
    """One fault at one stack."""

    def __init__(self, planned: PlannedFault, stack: ChaosStack, ledger: Ledger) -> None:
        """Make it; nothing happens before `begin`.

        Args:
            planned: what is to happen.
            stack: to which.
            ledger: is told what was lost for good, as the entries of a flushed Redis.
        """
        self.planned = planned
        self._stack = stack
        self._ledger = ledger

    def begin(self) -> bool:
        """Let it happen; whether it could."""
        name, stack = self.planned.target, self._stack
        match self.planned.kind:
            case FaultKind.KILL:
                return stack.kill(name)
            case FaultKind.RESTART:
                return self._restart()
            case FaultKind.FREEZE:
                return stack.freeze(name)
            case FaultKind.FLUSH:
                return self._flush()
            case FaultKind.CLOCK:
                stack.set_clock(name, self.planned.offset)
            case _:
                assert self.planned.mode is not None
                stack.proxies[name].set(self.planned.mode)
        return True

    def end(self) -> None:
        """Put an end to it; those that are over by themselves have none."""
        name, stack = self.planned.target, self._stack
        match self.planned.kind:
            case FaultKind.FREEZE:
                stack.thaw(name)
            case FaultKind.CLOCK:
                stack.set_clock(name, 0)
            case FaultKind.KILL | FaultKind.RESTART | FaultKind.FLUSH:
                return
            case _:
                stack.proxies[name].heal()

    def _restart(self) -> bool:
        try:
            self._stack.restart(self.planned.target)
        except LocalStackError as error:  # it becomes ready later, or the checker tells
            _log.warning("chaos.restart_failed", target=self.planned.target, error=str(error))
        return True

    def _flush(self) -> bool:
        """Empty Redis, and note the entries of the stream that were nowhere else."""
        endpoints = self._stack.endpoints
        stream = endpoints.settings.get("REDIS_STREAM", DEFAULT_STREAM)
        client: Any = redis_of(endpoints)
        try:
            for _ in range(_FLUSH_TRIES):
                try:
                    entries = _range_and_flush(client, stream)
                except (redis.RedisError, OSError):
                    time.sleep(0.5)
                    continue
                self._note_lost(entries)
                return True
        finally:
            client.close()
        return False

    def _note_lost(self, entries: dict[str, str]) -> None:
        known = self._known(list(entries.values()))
        lost = [entry for entry, job_id in entries.items() if job_id not in known]
        self._ledger.note(Entry.FLUSHED, entries=lost)

    def _known(self, job_ids: list[str]) -> set[str]:
        """Return those of the jobs that have a row; another fault may be in the way of asking."""
        database = open_database(self._stack.endpoints.settings)
        try:
            for _ in range(_FLUSH_TRIES):
                try:
                    with database.begin() as session:
                        return set(session.scalars(select(Job.id).where(Job.id.in_(job_ids))))
                except SQLAlchemyError:
                    time.sleep(1)
        finally:
            database.close()
        return set()


def _range_and_flush(client: Any, stream: str) -> dict[str, str]:
    """Empty Redis; return the stream's entries of that moment with their jobs."""
    transaction = client.pipeline(transaction=True)
    transaction.xrange(stream)
    transaction.flushall()
    entries, _ = transaction.execute()
    return {entry_id.decode(): fields[b"jobId"].decode() for entry_id, fields in entries}
