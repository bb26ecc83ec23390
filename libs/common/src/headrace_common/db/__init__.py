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

__all__ = [
    "ApiKey",
    "Base",
    "Database",
    "IdempotencyKey",
    "InboxReport",
    "Job",
    "JobEventRow",
    "Token",
    "pending_migrations",
    "upgrade",
]
