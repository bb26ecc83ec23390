"""`python -m headrace_common.db.await_schema`: wait until this version's migrations are applied.

Pods of a new version run it before they start, while another step migrates and the pods of the
version before go on. It waits as long as it takes: whoever runs it has a limit of its own.
"""

import time
from typing import Final

import structlog
from sqlalchemy.exc import OperationalError

from headrace_common.db.migrate import pending_migrations
from headrace_common.settings import DatabaseSettings, ProcessSettings
from headrace_common.telemetry import configure_logging

log = structlog.get_logger()

_LOOK_AGAIN_SECONDS: Final = 1.0


def await_schema(settings: DatabaseSettings) -> None:
    """Return once nothing is left to apply; a database that is away is waited for."""
    told: list[str] | None = None
    while True:
        try:
            pending = pending_migrations(settings)
        except OperationalError as error:
            log.warning("await_schema.no_database", error=str(error)[:500])
        else:
            if not pending:
                return
            if pending != told:
                told = pending
                log.info("await_schema.waiting", pending=pending)
        time.sleep(_LOOK_AGAIN_SECONDS)


if __name__ == "__main__":
    process = ProcessSettings.load()
    configure_logging(
        service="await-schema", level=process.log_level, log_format=process.log_format
    )
    await_schema(DatabaseSettings.load())
    log.info("await_schema.finished")
