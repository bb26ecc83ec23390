"""Migrations: from several pods at once, and true to the models."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from headrace_common.db import Base, pending_migrations, upgrade
from headrace_common.db.await_schema import await_schema
from headrace_common.settings import DatabaseSettings
from headrace_local.pytest_plugin import LocalServers


def _empty_database(local_servers: LocalServers) -> DatabaseSettings:
    server_url = local_servers.database_url
    name = f"pods_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    url = f"{server_url.rpartition('/')[0]}/{name}"
    return DatabaseSettings.model_validate({"database_url": url})


def test_of_several_pods_one_migrates(local_servers: LocalServers) -> None:
    settings = _empty_database(local_servers)
    expected = pending_migrations(settings)
    assert expected
    with ThreadPoolExecutor(5) as pool:
        applied = list(pool.map(lambda _: upgrade(settings), range(5)))
    assert sorted(applied, key=len) == [[], [], [], [], expected]
    assert pending_migrations(settings) == []


def test_pods_wait_for_the_migration(local_servers: LocalServers) -> None:
    settings = _empty_database(local_servers)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_schema, settings)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        upgrade(settings)
        waiting.result(timeout=60)


def test_a_version_that_is_rolled_back_leaves_the_later_schema(
    fresh_database: DatabaseSettings,
) -> None:
    url = fresh_database.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of the next version'")
        assert upgrade(fresh_database) == []
        await_schema(fresh_database)
        kept = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert kept == [("of the next version",)]


def test_the_schema_is_what_the_models_say(fresh_database: DatabaseSettings) -> None:
    engine = create_engine(fresh_database.database_url.get_secret_value())
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    engine.dispose()
    assert differences == []
