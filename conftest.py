"""Fixtures for every suite. The real servers come from the code that runs the local stack."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings

from headrace_common.db import Database, upgrade
from headrace_common.settings import DatabaseSettings
from headrace_local.pytest_plugin import LocalServers

# The same examples in every run, and as long for each as a busy machine takes: by default one
# that takes 200 ms fails its test.
settings.register_profile(
    "headrace", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("headrace")

# By default structlog draws the variables of every frame of a traceback, which takes seconds of a
# core: long enough for the lease of a scheduler that logs one in a test's process to run out.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def migrated_template(local_servers: LocalServers) -> str:
    """The name of a migrated database to copy: that takes a fraction of what migrating does."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(local_servers.database_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        upgrade(_settings(local_servers, name))
        # Nobody is connected to it when it is copied; the server would refuse.
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
    return name


@pytest.fixture
def fresh_database(
    local_servers: LocalServers, migrated_template: str
) -> Iterator[DatabaseSettings]:
    """A migrated database that no other test sees."""
    server_url = local_servers.database_url
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"'.encode())
    try:
        yield _settings(local_servers, name)
    finally:
        # Its own connection: a test may have stopped the server meanwhile.
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def database(fresh_database: DatabaseSettings) -> Iterator[Database]:
    """Connections to a migrated database that no other test sees."""
    connections = Database(fresh_database)
    try:
        yield connections
    finally:
        connections.close()


def _settings(servers: LocalServers, name: str) -> DatabaseSettings:
    url = f"{servers.database_url.rpartition('/')[0]}/{name}"
    return DatabaseSettings.model_validate({"database_url": url})
