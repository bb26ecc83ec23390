"""Telling the world that a job changed: one Redis channel, best effort.

The database has every event; Redis only makes readers quick. So a failure to publish is
counted and logged, and never fails the change that it tells of.
"""

import threading
import time
from collections.abc import Iterable
from typing import Final

import redis
import structlog

from headrace_common.contracts.events import EVENTS_CHANNEL, JobEvent
from headrace_common.telemetry.metrics import EVENTS_UNPUBLISHED

log = structlog.get_logger()

#: After a failure, so long nothing is tried: a dead Redis must not slow every change down.
_PAUSE_SECONDS: Final = 1.0


class EventPublisher:
    """Publishes job events; safe to use from several threads."""

    def __init__(self, client: redis.Redis) -> None:
        """Use `client`, whose time-outs bound how long a publication may take."""
        self._client = client
        self._lock = threading.Lock()
        self._silent_until = 0.0

    def publish(self, events: Iterable[JobEvent]) -> None:
        """Publish `events` in order."""
        batch = list(events)
        if not batch:
            return
        with self._lock:
            silent = time.monotonic() < self._silent_until
        if silent:
            EVENTS_UNPUBLISHED.inc(len(batch))
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for event in batch:
                    pipeline.publish(EVENTS_CHANNEL, event.model_dump_json())
                pipeline.execute()
        except redis.RedisError as error:
            with self._lock:
                self._silent_until = time.monotonic() + _PAUSE_SECONDS
            EVENTS_UNPUBLISHED.inc(len(batch))
            log.warning("events.unpublished", count=len(batch), error=str(error))
