"""One Redis subscription a process, and what it brings to every client that streams.

Redis makes streams quick, the database makes them right: whatever Redis loses is found by a
poll, one query for all jobs that are watched.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import redis
import structlog
from pydantic import ValidationError
from redis.asyncio.client import PubSub
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.contracts import EVENTS_CHANNEL, JobEvent
from headrace_common.errors import UnavailableError
from headrace_common.redis_client import blocking_redis_client
from headrace_common.settings import RedisSettings
from headrace_results.metrics import STREAM_CLIENTS, STREAM_HUB_CONNECTED
from headrace_results.reader import JobReader
from headrace_results.subscription import Subscription

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: A connection silent for so long is asked for a sign of life, and given up without one.
_SILENCE_SECONDS: Final = 5.0
#: Places in the lanes are counted at most so often.
_PLACES_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class HubLimits:
    """How much the hub takes, and how often it polls.

    Attributes:
        max_clients: open streams.
        queue_events: events kept for each.
        poll_seconds: between two polls without Redis.
        safety_poll_seconds: the same with Redis.
    """

    max_clients: int
    queue_events: int
    poll_seconds: float
    safety_poll_seconds: float


class Hub:
    """Brings job events to subscriptions. Used on the event loop only."""

    def __init__(self, settings: RedisSettings, reader: JobReader, limits: HubLimits) -> None:
        """Listen on the Redis of `settings`, and poll with `reader`."""
        self._settings = settings
        self._reader = reader
        self._limits = limits
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._clients = 0
        self._closed = False
        self._connected = False
        self._poll_now = asyncio.Event()

    def subscribe(self, job_id: str) -> Subscription:
        """Begin to collect the news of a job.

        While the process stops it ends at once: the client is told what there is, and resumes
        elsewhere.

        Raises:
            UnavailableError: too many streams are open.
        """
        if self._clients >= self._limits.max_clients:
            raise UnavailableError("too many event streams are open here; try again")
        subscription = Subscription(job_id, capacity=self._limits.queue_events)
        if self._closed:
            subscription.end()
        self._subscriptions[job_id].add(subscription)
        self._count(+1)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        watching = self._subscriptions[subscription.job_id]
        watching.discard(subscription)
        if not watching:
            del self._subscriptions[subscription.job_id]
        self._count(-1)

    def close(self) -> None:
        """End every stream, and those that still come."""
        self._closed = True
        for subscription in self._all():
            subscription.end()

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until cancelled; when `stopping` is set every stream is ended."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._close_when(stopping))
                tasks.create_task(self._listen())
                tasks.create_task(self._repeat(self._poll, self._poll_pause))
                tasks.create_task(self._repeat(self._count_places, self._places_pause))
        finally:
            self.close()

    async def _close_when(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self.close()

    async def _listen(self) -> None:
        """Keep the subscription open, whatever Redis does."""
        failures = 0
        while True:
            client = blocking_redis_client(self._settings)
            try:
                async with client, client.pubsub() as channel:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await channel.subscribe(EVENTS_CHANNEL)
                    failures = 0
                    await self._receive(channel)
            except (redis.RedisError, OSError) as error:
                log.warning("hub.disconnected", error=str(error), failures=failures)
            finally:
                self._note_connected(connected=False)
            await asyncio.sleep(min(_FIRST_PAUSE_SECONDS * 2**failures, _LONGEST_PAUSE_SECONDS))
            failures = min(failures + 1, 10)

    async def _receive(self, channel: PubSub) -> None:
        """Pass events on until the connection breaks or falls silent."""
        silent = False
        while True:
            message = await channel.get_message(timeout=_SILENCE_SECONDS)
            if message is None:
                if silent:
                    raise redis.ConnectionError("no sign of life")
                silent = True
                await channel.ping()
                continue
            silent = False
            if message["type"] == "message":
                self._publish(message["data"])
            elif message["type"] == "subscribe":
                # From now on nothing is missed; what was missed before is found at once.
                self._note_connected(connected=True)

    def _publish(self, data: bytes) -> None:
        try:
            event = JobEvent.model_validate_json(data)
        except ValidationError as error:
            # A newer version may send what this one does not know; the poll finds it.
            log.warning("hub.event_unreadable", faults=error.error_count())
            return
        for subscription in self._subscriptions.get(event.job_id, ()):
            subscription.offer(event)

    async def _poll(self) -> None:
        """Compare every watched job with the database."""
        watched = list(self._subscriptions)
        if not watched:
            return
        sequences = await self._reader.last_sequences(watched)
        for job_id in watched:
            for subscription in self._subscriptions.get(job_id, ()):
                if (sequence := sequences.get(job_id)) is None:
                    subscription.end()  # purged
                else:
                    subscription.check(sequence)

    async def _poll_pause(self) -> None:
        limits = self._limits
        seconds = limits.safety_poll_seconds if self._connected else limits.poll_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._poll_now.wait()
        except TimeoutError:
            return
        self._poll_now.clear()

    async def _count_places(self) -> None:
        """Tell those who wait where they are."""
        waiting = {entry.job_id for entry in self._all() if entry.is_waiting}
        if not waiting:
            return
        for job_id, place in (await self._reader.places(waiting)).items():
            for subscription in self._subscriptions.get(job_id, ()):
                subscription.offer_place(place.lane, place.number)

    async def _places_pause(self) -> None:
        await asyncio.sleep(_PLACES_SECONDS)

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            try:
                await step()
            except SQLAlchemyError as error:
                log.warning("hub.database_away", error=type(error).__name__)
            await pause()

    def _all(self) -> list[Subscription]:
        return [entry for watching in self._subscriptions.values() for entry in watching]

    def _note_connected(self, *, connected: bool) -> None:
        STREAM_HUB_CONNECTED.set(connected)
        if connected != self._connected:
            self._connected = connected
            self._poll_now.set()

    def _count(self, change: int) -> None:
        self._clients += change
        STREAM_CLIENTS.set(self._clients)
