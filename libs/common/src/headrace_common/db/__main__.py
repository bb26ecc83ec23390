"""`python -m headrace_common.db`: bring the schema up to date, in any service's image.

A step of its own before a roll-out: any number of pods may run it at once, and the services of
the version before go on with the new schema.
"""

import structlog

from headrace_common.db.migrate import upgrade
from headrace_common.settings import DatabaseSettings, ProcessSettings
from headrace_common.telemetry import configure_logging

if __name__ == "__main__":
    process = ProcessSettings.load()
    configure_logging(service="migrate", level=process.log_level, log_format=process.log_format)
    applied = upgrade(DatabaseSettings.load())
    structlog.get_logger().info("migrate.finished", applied=applied)
