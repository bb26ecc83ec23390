"""Who drives the schedules: one of any number of processes, for a term that has a number.

A leader holds an advisory lock of Postgres, and does everything that it does as the leader over
the connection that holds it. Whoever ends that connection ends lock and open transaction in one,
so that a leader which was frozen or cut off cannot do the rest of what it began. Besides, each of
its transactions begins with a look at the number of the term, which the next leader counts up: it
holds where something between the process and Postgres hands connections around.

Time is Postgres' alone: no process's clock says how old a sign of life is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from headrace_common.db import Database
from headrace_dispatcher.scheduling.metrics import ELECTIONS

log = structlog.get_logger()

#: How the connections of leader and followers are named in `pg_stat_activity`.
APPLICATION_NAME: Final = "headrace-scheduler"
#: Number of the advisory lock: "schedule" in ASCII.
LOCK: Final = 0x7363686564756C65

_TRY: Final = text("SELECT pg_try_advisory_lock(:lock)")
_BEGIN: Final = text("""
INSERT INTO scheduler_leader AS leader (id, epoch, holder) VALUES (1, 1, :holder)
ON CONFLICT (id) DO UPDATE SET epoch = leader.epoch + 1, holder = excluded.holder,
    elected_at = clock_timestamp(), heartbeat_at = clock_timestamp()
RETURNING epoch, pg_backend_pid() AS pid
""")
# The lock on the row makes the next leader wait for the end of the transaction that looked.
_CHECK: Final = text("""
SELECT epoch, pg_backend_pid() AS pid FROM scheduler_leader WHERE id = 1 FOR SHARE
""")
_BEAT: Final = text("""
UPDATE scheduler_leader SET heartbeat_at = clock_timestamp() WHERE id = 1 AND epoch = :epoch
""")
# A lock of 64 bits shows as two halves.
_HOLDER: Final = text("""
SELECT locks.pid FROM pg_locks AS locks, scheduler_leader AS leader
WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1
    AND locks.classid = :high AND locks.objid = :low
    AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND leader.id = 1
    AND leader.heartbeat_at < clock_timestamp() - make_interval(secs => :lease)
""")
_END: Final = text("SELECT pg_terminate_backend(:pid)")


class DeposedError(Exception):
    """Another leads, or may: nothing of the term may go on."""


class Term:
    """The time for which this process leads."""

    def __init__(self, connection: Connection, epoch: int, pid: int) -> None:
        """Made by `Election.campaign`."""
        self.epoch = epoch
        self._connection = connection
        self._pid = pid

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a transaction that is the leader's: it ends with the term.

        Raises:
            DeposedError: the term is over.
        """
        if self._connection.closed or self._connection.invalidated:
            raise DeposedError("the connection has ended")
        with Session(self._connection, expire_on_commit=False) as session, session.begin():
            self._check(session)
            yield session

    def beat(self, session: Session) -> None:
        """Give a sign of life."""
        session.execute(_BEAT, {"epoch": self.epoch})

    def _check(self, session: Session) -> None:
        found = session.execute(_CHECK).one_or_none()
        if found is None or found.epoch != self.epoch:
            raise DeposedError(f"epoch {self.epoch} is over: {found and found.epoch}")
        if found.pid != self._pid:
            raise DeposedError("the connection is another than the one that holds the lock")


class Election:
    """Tries to lead. It is for one thread."""

    def __init__(self, database: Database, *, holder: str, lease_seconds: float) -> None:
        """Make it; it connects when it first campaigns.

        Args:
            database: that has the schedules.
            holder: name of this process, for people.
            lease_seconds: a leader that was silent for so long is none any more.
        """
        self._database = database
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._connection: Connection | None = None
        #: Who held the lock at the last look, although the sign of life was too old.
        self._suspect: int | None = None

    def campaign(self) -> Term | None:
        """Try once to lead.

        Returns:
            The term; None while another leads.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Postgres is away.
        """
        connection = self._connected()
        with Session(connection) as session, session.begin():
            if not session.scalar(_TRY, {"lock": LOCK}):
                self._look_at_holder(session)
                return None
        with Session(connection) as session, session.begin():
            begun = session.execute(_BEGIN, {"holder": self._holder}).one()
        ELECTIONS.inc()
        log.info("scheduler.elected", epoch=begun.epoch, holder=self._holder)
        return Term(connection, begun.epoch, begun.pid)

    def resign(self) -> None:
        """Give up what is held: the lock goes with the connection."""
        connection, self._connection, self._suspect = self._connection, None, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.dedicated(
                application_name=APPLICATION_NAME, silent_seconds=self._lease_seconds
            )
        return self._connection

    def _look_at_holder(self, session: Session) -> None:
        """End the connection of a leader that gives no sign of life.

        Only of one that was there at the last look already: who was just elected has the lock a
        moment before it has given its first sign.
        """
        asked: dict[str, Any] = {
            "high": LOCK >> 32,
            "low": LOCK & 0xFFFFFFFF,
            "lease": self._lease_seconds,
        }
        holder = session.scalar(_HOLDER, asked)
        if holder is not None and holder == self._suspect:
            log.warning("scheduler.leader_silent", pid=holder, lease_seconds=self._lease_seconds)
            session.execute(_END, {"pid": holder})
        self._suspect = holder
