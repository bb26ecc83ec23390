"""What one client of an event stream is about to be told; bounded, whatever the client does."""

import asyncio
from collections import deque
from enum import Enum, auto

from pydantic import BaseModel, ConfigDict, Field

from headrace_common.contracts import JobEvent, JobStatus, Lane


class QueuePosition(BaseModel):
    """The place of a job that waits; live only, so it has no sequence."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    place: int = Field(ge=1, description="1 is next")
    lane: Lane


class Signal(Enum):
    """What a stream is to do where there is no event to send."""

    BEHIND = auto()  #: read the database: events were lost, or came faster than the client reads
    END = auto()  #: end, and let the client resume


class Subscription:
    """News of one job for one client. Used on the event loop only."""

    def __init__(self, job_id: str, *, capacity: int) -> None:
        """Make it.

        Args:
            job_id: whose news.
            capacity: events kept for a client that reads slowly; beyond, it is `BEHIND`.
        """
        self.job_id = job_id
        self.is_waiting = False
        self._capacity = capacity
        self._events: deque[JobEvent] = deque()
        self._known = 0
        self._behind = False
        self._ended = False
        self._told: QueuePosition | None = None
        self._position: QueuePosition | None = None
        self._news = asyncio.Event()

    def note_sent(self, sequence: int, status: JobStatus) -> None:
        """Note that the client has all up to the event `sequence`, and the job is in `status`."""
        self._known = max(self._known, sequence)
        self.is_waiting = status is JobStatus.QUEUED
        if not self.is_waiting:
            self._position = self._told = None

    def offer(self, event: JobEvent) -> None:
        """Add an event that has just happened."""
        if self._behind:
            return
        if len(self._events) >= self._capacity:
            self.fall_behind()
            return
        self._events.append(event)
        self._known = max(self._known, event.sequence)
        self._news.set()

    def offer_place(self, lane: Lane, place: int) -> None:
        """Add the job's place in its lane, where it changed."""
        if not self.is_waiting:
            return
        position = QueuePosition(job_id=self.job_id, place=place, lane=lane)
        if position != self._told:
            self._position = self._told = position
            self._news.set()

    def check(self, last_sequence: int) -> None:
        """Compare with what the database has: an event may have been lost on its way."""
        if last_sequence > self._known:
            self.fall_behind()

    def fall_behind(self) -> None:
        """Let the client be served from the database next."""
        self._behind = True
        self._events.clear()
        self._news.set()

    def end(self) -> None:
        """Let the stream end."""
        self._ended = True
        self._news.set()

    async def next(self, *, deadline: float) -> JobEvent | QueuePosition | Signal:
        """Wait for what the client is to be told next.

        Args:
            deadline: time of the event loop at which the stream is to end.
        """
        while (news := self._take()) is None:
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return Signal.END
        return news

    def _take(self) -> JobEvent | QueuePosition | Signal | None:
        if self._ended:
            return Signal.END
        if self._behind:
            self._behind = False
            return Signal.BEHIND
        if self._events:
            return self._events.popleft()
        position, self._position = self._position, None
        return position
