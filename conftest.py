"""Fixtures for every suite. The real servers come from the code that runs the local stack."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from headrace_common.db import Database, upgrade
from headrace_common.settings import DatabaseSettings
from headrace_local.pytest_plugin import LocalServers


@pytest.fixture
def fresh_database(local_servers: LocalServers) -> Iterator[DatabaseSettings]:
    """A migrated database that no other test sees."""
    server_url = local_servers.database_url
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    url = f"{server_url.rpartition('/')[0]}/{name}"
    settings = DatabaseSettings.model_validate({"database_url": url})
    try:
        upgrade(settings)
        yield settings
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
