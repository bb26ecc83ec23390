"""Attempts to send, counted by side and slice of time, so that every replica sees all of them."""

import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.db import Database, TransportOutcome
from headrace_common.repeat import Repeater
from headrace_dispatcher.rollout.current import CurrentRollout
from headrace_dispatcher.transports import TransportName

log = structlog.get_logger()

SLICE_SECONDS: Final = 10
_FLUSH_SECONDS: Final = 1.0
#: Longest time that a comparison may look back; house-keeping removes what is older.
KEPT: Final = timedelta(days=1)
#: Slices that wait while Postgres is away; older ones are figures that nobody misses.
_MOST_WAITING: Final = 1_000

_Key = tuple[datetime, TransportName]


def slice_of(now: datetime, changed_at: datetime | None) -> datetime:
    """Return the slice that `now` is in.

    A change of the roll-out begins a slice of its own, so that what came before is told from
    what came after.
    """
    begin = datetime.fromtimestamp(now.timestamp() // SLICE_SECONDS * SLICE_SECONDS, tz=UTC)
    return changed_at if changed_at is not None and begin < changed_at <= now else begin


class Outcomes:
    """Counts in memory, and adds to the table every second. Safe to use from any thread."""

    def __init__(self, database: Database, current: CurrentRollout) -> None:
        """Make it; nothing is written before `start`."""
        self._database = database
        self._current = current
        self._lock = threading.Lock()
        self._counts: defaultdict[_Key, list[int]] = defaultdict(lambda: [0, 0])
        self._repeater = Repeater("rollout-outcomes", self._step)

    def start(self) -> None:
        """Write in the background."""
        self._repeater.start()

    def stop(self) -> None:
        """Write the rest, unless Postgres is away."""
        self._repeater.ask_to_stop()
        self._repeater.join(timeout_seconds=5)
        try:
            self.flush()
        except SQLAlchemyError as error:
            log.warning("rollout.outcomes_left", error=str(error)[:500])

    def check(self) -> None:
        """Check that the thread lives.

        Raises:
            RuntimeError: it does not.
        """
        self._repeater.check_alive()

    def add(self, name: TransportName, *, taken: int, refused: int) -> None:
        """Count attempts over `name`."""
        changed_at = self._current.state.changed_at
        key = (slice_of(datetime.now(UTC), changed_at), name)
        with self._lock:
            if key in self._counts or len(self._counts) < _MOST_WAITING:
                self._counts[key][0] += taken
                self._counts[key][1] += refused

    def flush(self) -> None:
        """Add what was counted to the table.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Postgres is away; it is added later.
        """
        with self._lock:
            counts, self._counts = self._counts, defaultdict(lambda: [0, 0])
        if not counts:
            return
        try:
            self._add_all(counts)
        except Exception:
            with self._lock:
                for key, (taken, refused) in counts.items():
                    self._counts[key][0] += taken
                    self._counts[key][1] += refused
            raise

    def _add_all(self, counts: dict[_Key, list[int]]) -> None:
        # In the order of their keys: two replicas lock them in the same one.
        values = [
            {"slice_at": at, "transport": name, "taken": taken, "refused": refused}
            for (at, name), (taken, refused) in sorted(counts.items())
        ]
        statement = insert(TransportOutcome).values(values)
        added = statement.on_conflict_do_update(
            index_elements=[TransportOutcome.slice_at, TransportOutcome.transport],
            set_={
                "taken": TransportOutcome.taken + statement.excluded.taken,
                "refused": TransportOutcome.refused + statement.excluded.refused,
            },
        )
        with self._database.begin() as session:
            session.execute(added)

    def _step(self) -> float:
        self.flush()
        return _FLUSH_SECONDS
