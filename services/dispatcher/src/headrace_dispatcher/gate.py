"""The gate of the lanes: whether messages may be fetched now, and how many.

While nothing can be done with a job, its message stays in its lane and costs nobody anything.
"""

from typing import Final

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from headrace_common.circuit import CircuitState
from headrace_common.db import Database
from headrace_common.queue_controls import paused_queues
from headrace_dispatcher.circuits import Circuits
from headrace_dispatcher.routing import Routing

log = structlog.get_logger()

#: The database is away, or too busy; no job's fault.
DATABASE_AWAY: Final = (OperationalError, InterfaceError, PoolTimeoutError)
#: How often paused lanes and the database are looked at.
_LOOK_SECONDS: Final = 1.0


class Gate:
    """Knows what is paused, and what is away. Safe to use from any thread."""

    def __init__(self, database: Database, circuits: Circuits, routing: Routing) -> None:
        """Make it, open."""
        self._database = database
        self._circuits = circuits
        self._routing = routing
        self._paused: frozenset[str] = frozenset()

    @property
    def paused(self) -> frozenset[str]:
        """Queues that are paused, as last read."""
        return self._paused

    def room(self, queue_name: str) -> int | None:
        """Say how many messages of a lane's queue may be fetched; None: any number."""
        if queue_name in self._paused or self._circuits.postgres.state is not CircuitState.CLOSED:
            return 0
        return self._circuits.room(self._routing.in_use())

    def is_shut(self, queue_name: str) -> bool:
        """Whether nothing of a lane's queue is to be worked on now."""
        return self.room(queue_name) == 0

    def database_failed(self, error: Exception) -> None:
        """Note that the database did not answer somebody; `look` finds out when it does."""
        self._circuits.postgres.failed(type(error).__name__)

    def look(self) -> float:
        """Read what is paused. What was known stays while the database is away.

        Returns:
            Seconds until the next look.
        """
        try:
            with self._database.begin() as session:
                paused = frozenset(paused_queues(session))
        except SQLAlchemyError as error:
            self.database_failed(error)
            return _LOOK_SECONDS
        if paused != self._paused:
            log.warning("dispatcher.paused_changed", paused=sorted(paused))
        self._paused = paused
        self._circuits.postgres.succeeded()
        return _LOOK_SECONDS
