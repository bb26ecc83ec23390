"""Who leads, looked at all the time."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Self

import psycopg

_LOOK_SECONDS: Final = 0.05
_LEADER: Final = "SELECT epoch, holder, elected_at FROM scheduler_leader WHERE id = 1"


@dataclass(frozen=True)
class Lead:
    """The beginning of a term.

    Attributes:
        at: when it was seen, by the monotonic clock of the drill.
        epoch: its number.
        pid: of the process that leads.
        elected_at: when it began, by the database's clock.
    """

    at: float
    epoch: int
    pid: int
    elected_at: datetime


@dataclass
class Watch:
    """Notes each new term, in a thread of its own."""

    database_url: str
    leads: list[Lead] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._ending.set()
        self._thread.join()

    @property
    def pid(self) -> int | None:
        """Of the process that leads, or was the last to."""
        return self.leads[-1].pid if self.leads else None

    def next_after(self, instant: float, *, but: int) -> Lead | None:
        """Return the first term of another process that began after `instant`."""
        return next((lead for lead in self.leads if lead.at > instant and lead.pid != but), None)

    def _run(self) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while not self._ending.wait(_LOOK_SECONDS):
                row = connection.execute(_LEADER).fetchone()
                if row is not None and (not self.leads or self.leads[-1].epoch != row[0]):
                    pid = int(row[1].rpartition(":")[2])
                    self.leads.append(Lead(time.monotonic(), row[0], pid, row[2]))
