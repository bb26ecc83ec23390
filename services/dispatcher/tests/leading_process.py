"""A process that leads the schedules until its standard input ends: `leading_process.py WHAT`.

WHAT is JSON with the settings of the database and of Redis.
"""

import json
import sys

from headrace_common.broker import make_broker
from headrace_common.db import Database
from headrace_common.settings import DatabaseSettings, RedisSettings
from headrace_dispatcher.scheduling.process import Scheduler
from headrace_dispatcher.scheduling.settings import SchedulerSettings


def main(what: str) -> None:
    told = json.loads(what)
    database = Database(DatabaseSettings.model_validate(told["database"]))
    broker = make_broker(RedisSettings.model_validate(told["redis"]))
    scheduler = Scheduler(database, broker, SchedulerSettings(), holder="test")
    scheduler.start()
    sys.stdin.read()
    scheduler.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
