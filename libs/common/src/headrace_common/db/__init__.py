"""Postgres, the system of record: the engine, the tables and their migrations."""

from headrace_common.db.engine import Database
from headrace_common.db.migrate import pending_migrations, upgrade
from headrace_common.db.models import (
    ApiKey,
    Base,
    IdempotencyKey,
    InboxReport,
    Job,
    JobEventRow,
    Token,
)
from headrace_common.db.storable import is_storable

__all__ = [
    "ApiKey",
    "Base",
    "Database",
    "IdempotencyKey",
    "InboxReport",
    "Job",
    "JobEventRow",
    "Token",
    "is_storable",
    "pending_migrations",
    "upgrade",
]
