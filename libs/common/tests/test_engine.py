"""Connections to the database."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from headrace_common.db import Database
from headrace_common.settings import DatabaseSettings
from headrace_local.waiting import wait_until


def test_a_vanished_host_is_noticed_in_seconds(database: Database) -> None:
    with database.begin() as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        used = driver.info.get_parameters()
    noticed_idle = int(used["keepalives_idle"]) + int(used["keepalives_interval"]) * int(
        used["keepalives_count"]
    )
    assert noticed_idle <= 30
    assert int(used["tcp_user_timeout"]) <= 30_000


@pytest.fixture
def impatient(fresh_database: DatabaseSettings) -> Iterator[Database]:
    """Connections that give their server a second, and what one that is alive may be late by."""
    quick = {"database_connect_timeout_seconds": 1, "database_statement_timeout_seconds": 1}
    made = Database(fresh_database.model_copy(update=quick))
    yield made
    made.close()


def process_of(database: Database) -> int:
    """Return the server's process for the one connection of a pool."""
    with database.begin() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
    assert isinstance(pid, int)
    return pid


def sessions_named(database: Database, name: str) -> int:
    """Count the server's sessions on this database with an application's name."""
    query = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = :name
    """)
    with database.begin() as session:
        return session.scalar(query, {"name": name}) or 0


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process of the server."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_froze_between_two_transactions_is_given_up(impatient: Database) -> None:
    pid, started = process_of(impatient), time.monotonic()
    with frozen(pid):
        assert process_of(impatient) != pid
    assert time.monotonic() - started < 15


def test_a_server_that_freezes_in_a_transaction_is_given_up(impatient: Database) -> None:
    pid, started = process_of(impatient), time.monotonic()

    def ask_twice() -> None:
        with impatient.begin() as session:
            session.execute(text("SELECT 1"))
            with frozen(pid):
                session.execute(text("SELECT 2"))

    with pytest.raises(OperationalError):
        ask_twice()
    assert time.monotonic() - started < 15
    assert process_of(impatient) != pid


def test_a_connection_of_ones_own_takes_no_place_in_the_pool(
    fresh_database: DatabaseSettings,
) -> None:
    small = Database(fresh_database.model_copy(update={"database_pool_size": 1}))
    with small.dedicated(application_name="mine", silent_seconds=3) as connection:
        name = connection.scalar(text("SELECT current_setting('application_name')"))
        connection.commit()
        assert name == "mine"
        assert process_of(small)
        wait_until(lambda: not sessions_named(small, "mine"))
        with pytest.raises(OperationalError, match="idle-session timeout"):
            connection.scalar(text("SELECT 1"))
    small.close()


def test_a_connection_of_ones_own_gives_up_a_server_that_freezes(database: Database) -> None:
    with database.dedicated(application_name="mine", silent_seconds=3) as connection:
        pid, started = connection.scalar(text("SELECT pg_backend_pid()")), time.monotonic()
        assert isinstance(pid, int)
        with frozen(pid), pytest.raises(OperationalError, match="silent"):
            connection.scalar(text("SELECT 1"))
    # Half of the three seconds, and what a server that is alive may be late by.
    assert time.monotonic() - started < 15
