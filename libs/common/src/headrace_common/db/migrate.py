"""Migrations, run as a step of their own and safe to run from several pods at once.

Alembic is loaded by who migrates: every process that uses the database imports this module.
"""
# ruff: noqa: PLC0415

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from headrace_common.settings import DatabaseSettings

if TYPE_CHECKING:
    from alembic.config import Config

#: Key of the advisory lock that makes migrating pods wait for each other: "headrace" in hex.
_MIGRATION_LOCK: Final = 0x6865616472616365
#: How often a pod that waits for another's migration looks whether it is over.
_LOOK_AGAIN_SECONDS: Final = 0.2


def upgrade(settings: DatabaseSettings, revision: str = "head") -> list[str]:
    """Bring the schema to `revision`.

    Any number of callers may run at once: one migrates, the others wait and find nothing
    left to do. A schema of a later version stays as it is: the version before works with it, so
    that a roll-out can be taken back.

    Returns:
        The revisions that this call applied, oldest first.
    """
    from alembic import command

    engine = _engine(settings)
    # Autocommit: the lock belongs to the session, and an open transaction beside a migration
    # would hold up CREATE INDEX CONCURRENTLY.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _take_lock(connection)
        try:
            if _is_later(engine):
                return []
            before = set(_applied(engine))
            config = _config()
            config.attributes["engine"] = engine
            command.upgrade(config, revision)
            return [step for step in _applied(engine) if step not in before]
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})


def _take_lock(connection: Connection) -> None:
    """Wait until no other pod migrates.

    Asked again and again: a statement that waits for the lock would hold a snapshot, which CREATE
    INDEX CONCURRENTLY waits for, and neither would ever end.
    """
    asked = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.scalar(asked, {"key": _MIGRATION_LOCK}):
        time.sleep(_LOOK_AGAIN_SECONDS)


def pending_migrations(settings: DatabaseSettings) -> list[str]:
    """Return the revisions that `upgrade` would apply, oldest first."""
    engine = _engine(settings)
    if _is_later(engine):
        return []
    done = set(_applied(engine))
    return [step for step in _all_revisions() if step not in done]


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _engine(settings: DatabaseSettings) -> Engine:
    return create_engine(
        settings.database_url.get_secret_value(),
        poolclass=NullPool,
        connect_args={"connect_timeout": settings.database_connect_timeout_seconds},
    )


def _all_revisions() -> list[str]:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_config())
    return [step.revision for step in script.walk_revisions()][::-1]


def _applied(engine: Engine) -> list[str]:
    current, order = _current(engine), _all_revisions()
    return order[: order.index(current) + 1] if current in order else []


def _is_later(engine: Engine) -> bool:
    """Whether the schema is at a revision that this version does not know: a later one's."""
    current = _current(engine)
    return current is not None and current not in _all_revisions()


def _current(engine: Engine) -> str | None:
    from alembic.runtime.migration import MigrationContext

    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()
