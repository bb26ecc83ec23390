"""A process that takes up a firing and is killed on the way: `dying_performer.py WHERE WHAT`.

WHERE is `before_commit` or `after_commit`, WHAT is JSON with the settings and the stream.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy.orm import Session

from headrace_common.broker import make_broker
from headrace_common.contracts.events import JobEvent
from headrace_common.db import Database, Firing
from headrace_common.firings import Firings
from headrace_common.jobs import EventPublisher, JobStore
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, RedisSettings
from headrace_dispatcher.scheduling.performing import Performing

#: Longest that it waits for a message.
_LONGEST_SECONDS = 30


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _DyingFirings(Firings):
    def begin_in(self, session: Session, firing_id: int, *, retried: bool = False) -> Firing | None:
        found = super().begin_in(session, firing_id, retried=retried)
        _die()
        return found


class _DyingPublisher(EventPublisher):
    """Is called right after the commit, before a worker is told."""

    def publish(self, events: Iterable[JobEvent]) -> None:
        _die()


def main(where: str, what: str) -> None:
    told = json.loads(what)
    redis_settings = RedisSettings.model_validate(told["redis"])
    database = Database(DatabaseSettings.model_validate(told["database"]))
    client = redis_client(redis_settings)
    publisher = _DyingPublisher(client) if where == "after_commit" else EventPublisher(client)
    firings = _DyingFirings if where == "before_commit" else Firings
    broker = make_broker(redis_settings)
    performing = Performing(
        database,
        JobStore(database, publisher, retention=timedelta(days=1)),
        broker,
        firings(database, dead_after_seconds=60),
        stream=told["stream"],
    )
    performing.make_worker(broker).start()
    time.sleep(_LONGEST_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
