"""What the servers need before services can use them: database, schema, key, bucket, queues.

Each step depends on one server and may be repeated; it runs whenever that server has become
ready, so that one that lost its data gets it again. It loads the libraries that it needs, half a
second's work in all: most servers of most tests need none.
"""
# ruff: noqa: PLC0415

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from headrace_common.errors import UnauthorizedError
from headrace_common.loading import loading
from headrace_local import credentials as credentials_file
from headrace_local.credentials import Credentials
from headrace_local.environment import BUCKET
from headrace_local.program import Server
from headrace_local.servers.postgres import DATABASE, Postgres
from headrace_local.servers.seaweedfs import SeaweedFS
from headrace_local.servers.sqs import Sqs

if TYPE_CHECKING:
    from headrace_common.db import Database
    from headrace_common.settings import DatabaseSettings
    from headrace_common.sqs import QueueUrls

_KEY_NAME: Final = "local stack"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Step:
    """One thing to make where it is missing."""

    name: str
    run: Callable[[], None]


class Provisioner:
    """The steps of one stack."""

    def __init__(self, credentials: Credentials, credentials_path: Path) -> None:
        """Make it; a new API key is put into `credentials` and kept in `credentials_path`."""
        self._credentials = credentials
        self._credentials_path = credentials_path
        self._queues: QueueUrls | None = None

    def run(self, server: Server) -> "QueueUrls | None":
        """Run the steps of a server that is ready.

        Returns:
            The queues, if it is the SQS server.
        """
        for step in self.steps(server):
            step.run()
            _log.info("local.provisioned", server=server.name, step=step.name)
        return self._queues

    def steps(self, server: Server) -> list[Step]:
        """Return what has to be made on a server, in order."""
        match server:
            case Postgres():
                return [
                    Step("database", lambda: create_database(server)),
                    Step("schema", lambda: self._upgrade(server)),
                    Step("api key", lambda: self._ensure_key(server)),
                ]
            case SeaweedFS():
                return [Step("bucket", lambda: _ensure_bucket(server))]
            case Sqs():
                return [Step("queues", lambda: self._ensure_queues(server))]
            case _:
                return []

    def _upgrade(self, server: Postgres) -> None:
        with loading():
            from headrace_common.db import upgrade

        upgrade(_settings(server))

    def _ensure_key(self, server: Postgres) -> None:
        from headrace_common import keys
        from headrace_common.db import Database

        database = Database(_settings(server))
        try:
            if self._has_valid_key(database):
                return
            with database.begin() as session:
                created = keys.create(session, name=_KEY_NAME, scopes=tuple(keys.Scope))
        finally:
            database.close()
        self._credentials.api_key = created.secret_text
        credentials_file.save(self._credentials_path, self._credentials)

    def _has_valid_key(self, database: "Database") -> bool:
        from headrace_common import keys

        if self._credentials.api_key is None:
            return False
        try:
            with database.begin() as session:
                keys.authenticate(session, self._credentials.api_key)
        except UnauthorizedError:
            return False
        return True

    def _ensure_queues(self, server: Sqs) -> None:
        with loading():
            from headrace_common.sqs import ensure_queues

        self._queues = ensure_queues(server.client)


def create_database(server: Postgres) -> None:
    """Create the database unless it is there."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(server.database_url("postgres"), autocommit=True) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, [DATABASE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _ensure_bucket(server: SeaweedFS) -> None:
    with loading():
        from headrace_common.storage import ensure_bucket

    ensure_bucket(server.client, BUCKET)


def _settings(server: Postgres) -> "DatabaseSettings":
    from headrace_common.settings import DatabaseSettings

    return DatabaseSettings.model_validate(
        {"database_url": server.database_url(), "database_pool_size": 1}
    )
