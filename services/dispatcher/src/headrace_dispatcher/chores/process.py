"""The house-keeping that a dispatcher performs."""

from datetime import timedelta

from headrace_common.chores import ChoreWorker
from headrace_common.contracts.schedules import RECOVER_JOBS, TIDY_RECORDS
from headrace_common.db import Database
from headrace_dispatcher.chores.records import Records, Retention
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.sweep import Sweep


def make_chores(database: Database, sweep: Sweep, settings: DispatcherSettings) -> ChoreWorker:
    """Make what performs it."""
    retention = Retention(
        audit=settings.audit_retention,
        firings=settings.firing_retention,
        letters=timedelta(days=settings.dead_letter_retention_days),
        keys=settings.idempotency_key_lifetime,
        reports=settings.job_retention,
    )
    records = Records(database, retention)
    return ChoreWorker(settings, database, {RECOVER_JOBS: sweep.run, TIDY_RECORDS: records.tidy})
