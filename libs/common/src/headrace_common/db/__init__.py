"""Postgres, the system of record: the engine, the tables and their migrations."""

from headrace_common.db.engine import Database
from headrace_common.db.migrate import pending_migrations, upgrade
from headrace_common.db.models import (
    POISONED,
    ApiKey,
    AuditEntry,
    Base,
    DeadLetter,
    DirectUpload,
    IdempotencyKey,
    InboxReport,
    Job,
    JobEventRow,
    QueueControl,
    Rollout,
    ShadowRun,
    Token,
    TransportOutcome,
)
from headrace_common.db.storable import is_storable

__all__ = [
    "POISONED",
    "ApiKey",
    "AuditEntry",
    "Base",
    "Database",
    "DeadLetter",
    "DirectUpload",
    "IdempotencyKey",
    "InboxReport",
    "Job",
    "JobEventRow",
    "QueueControl",
    "Rollout",
    "ShadowRun",
    "Token",
    "TransportOutcome",
    "is_storable",
    "pending_migrations",
    "upgrade",
]
