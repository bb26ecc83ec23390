"""One pool of connections a process, and short transactions on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from headrace_common.db.patience import ImpatientConnection
from headrace_common.settings import DatabaseSettings

#: Seconds a caller waits for a free connection before it is told that the database is busy.
_POOL_TIMEOUT_SECONDS = 5
#: A host that vanished (a failover, a node that died) sends no end of its connections. Without
#: these, TCP lets every thread wait a quarter of an hour for it; the server's own time-out for
#: statements is of no help then. Seconds, but for the last, which is milliseconds.
_DEAD_HOST: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class Database:
    """The pool. Every use is one short transaction: `with database.begin() as session`."""

    def __init__(self, settings: DatabaseSettings, *, application_name: str = "headrace") -> None:
        """Make the pool; it connects when it is first used.

        Args:
            settings: URL, size and time-outs.
            application_name: how the connections are named in `pg_stat_activity`.
        """
        statement_timeout_ms = int(settings.database_statement_timeout_seconds * 1000)
        idle_timeout_ms = int(settings.database_idle_transaction_timeout_seconds * 1000)
        self._engine = create_engine(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT_SECONDS,
            # A connection that died with its server is noticed before a request gets it.
            pool_pre_ping=True,
            # Errors are logged; what users sent is nobody's business there.
            hide_parameters=True,
            connect_args={
                "connect_timeout": settings.database_connect_timeout_seconds,
                "application_name": application_name,
                **_DEAD_HOST,
                "options": f"-c statement_timeout={statement_timeout_ms} "
                # A process that was frozen within a transaction holds its locks no longer.
                f"-c idle_in_transaction_session_timeout={idle_timeout_ms} -c timezone=UTC",
            },
        )
        self._session = sessionmaker(self._engine, expire_on_commit=False)

        @event.listens_for(self._engine, "do_connect")
        def connect(_dialect: Any, _record: Any, args: Any, more: Any) -> ImpatientConnection:
            connection = ImpatientConnection.connect(*args, **more)
            connection.set_patience(
                sign_of_life_seconds=settings.database_connect_timeout_seconds,
                statement_seconds=settings.database_statement_timeout_seconds,
            )
            return connection

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a session in one transaction: committed at the end, rolled back on an error."""
        with self._session.begin() as session:
            yield session

    @contextmanager
    def alone(self, lock: int, *, silent_seconds: float) -> Iterator[Callable[[], None] | None]:
        """Do something that only one process of the installation does at a time.

        No transaction is open meanwhile, so that the work may take long. Whoever is silent for
        too long, because it is frozen for instance, loses its connection and so the lock.

        Args:
            lock: number of the advisory lock.
            silent_seconds: how long.

        Yields:
            None if another process does it; else what to call now and then, which raises
            `SQLAlchemyError` once the lock is lost.
        """
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Its own from here on: what is set on it must not come back to the pool.
        connection.detach()
        with connection:
            connection.execute(
                text("SELECT set_config('idle_session_timeout', :limit, false)"),
                {"limit": f"{int(silent_seconds * 1000)}ms"},
            )
            mine = connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": lock})
            yield (lambda: _touch(connection)) if mine else None

    def dedicated(self, *, application_name: str, silent_seconds: float) -> Connection:
        """Open a connection that is the caller's alone, for as long as it keeps it.

        What it holds, locks and transactions, ends with it, whoever ends it: the caller, another
        by `pg_terminate_backend`, or the server itself once the caller has been silent.

        Args:
            application_name: how it is named in `pg_stat_activity`.
            silent_seconds: a caller that was silent for so long loses it; statements and the
                caller's waiting for them end well before.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: there is none to be had.
        """
        connection = self._engine.connect()
        driver = connection.connection.driver_connection
        connection.detach()
        try:
            assert isinstance(driver, ImpatientConnection)  # noqa: S101 - `connect` made it
            patience = silent_seconds / 2
            driver.set_patience(sign_of_life_seconds=patience, statement_seconds=patience)
            limits = {
                "application_name": application_name,
                "statement_timeout": f"{int(patience * 1000)}ms",
                "idle_session_timeout": f"{int(silent_seconds * 1000)}ms",
                "idle_in_transaction_session_timeout": f"{int(silent_seconds * 1000)}ms",
            }
            for name, value in limits.items():
                connection.execute(
                    text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value}
                )
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: it gives none.
        """
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _touch(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
