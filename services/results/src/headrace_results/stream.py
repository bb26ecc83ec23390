"""A job's progress as Server-Sent Events that resume without a gap or a repetition (A11)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.contracts import EventType, JobEvent
from headrace_common.errors import BadRequestError, NotFoundError, UnavailableError
from headrace_common.keys import Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_results.follow import follow
from headrace_results.hub import Hub
from headrace_results.params import JobId
from headrace_results.reader import JobHead, JobReader
from headrace_results.subscription import QueuePosition, Subscription

log = structlog.get_logger()

#: Milliseconds that a client waits before it connects again.
_RETRY_MS: Final = 2_000
#: A sequence is a 32-bit integer.
_MAX_SEQUENCE: Final = 2**31 - 1
_MAX_DIGITS: Final = len(str(_MAX_SEQUENCE))


class NothingFollowsError(Exception):
    """The client has everything there will ever be: 204 ends an `EventSource` for good."""


@dataclass(frozen=True)
class Watch:
    """One client's stream.

    Attributes:
        after: the last event that the client has.
        deadline: time of the event loop at which the stream ends.
    """

    subscription: Subscription
    after: int
    deadline: float


def read_last_event_id(text: str | None) -> int:
    """Read the id of the last event that a client has; 0 for a new client.

    Raises:
        BadRequestError: it is not one of our ids.
    """
    if not text:
        return 0
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not is_number or (sequence := int(text)) > _MAX_SEQUENCE:
        raise BadRequestError("Last-Event-ID is not the id of an event of a job")
    return sequence


def check_position(head: JobHead, after: int) -> None:
    """Check that something can follow what the client has.

    Raises:
        BadRequestError: the job has no such event.
        NothingFollowsError: the job is finished, and the client has all of it.
    """
    if after > head.last_sequence:
        raise BadRequestError(f"the job has no event {after}, its last is {head.last_sequence}")
    if head.status.is_final and after == head.last_sequence:
        raise NothingFollowsError


def render(news: JobEvent | QueuePosition) -> ServerSentEvent:
    """Show an event on the wire; a place has no id, because it cannot be resumed from."""
    if isinstance(news, QueuePosition):
        return ServerSentEvent(event=EventType.QUEUE_POSITION, raw_data=news.model_dump_json())
    return ServerSentEvent(event=news.type, id=str(news.sequence), raw_data=news.model_dump_json())


class EventStreams:
    """Opens streams."""

    def __init__(self, hub: Hub, reader: JobReader, *, max_seconds: float) -> None:
        """Make it.

        Args:
            hub: brings what happens.
            reader: reads what has happened.
            max_seconds: life of a stream.
        """
        self._hub = hub
        self._reader = reader
        self._max_seconds = max_seconds

    async def open(self, job_id: str, after: int) -> Watch:
        """Open a client's stream; `close` must follow.

        Raises:
            BadRequestError, NotFoundError, UnavailableError, NothingFollowsError: why not.
        """
        subscription = self._hub.subscribe(job_id)
        try:
            head = await self._reader.head(job_id)
            check_position(head, after)
        except BaseException:
            self._hub.unsubscribe(subscription)
            raise
        subscription.note_sent(after, head.status)
        return Watch(subscription, after, asyncio.get_running_loop().time() + self._max_seconds)

    def close(self, watch: Watch) -> None:
        """Forget a stream."""
        self._hub.unsubscribe(watch.subscription)

    async def events(self, watch: Watch) -> AsyncIterator[ServerSentEvent]:
        """Tell a client what it watches; an error ends the stream, and the client resumes it."""
        yield ServerSentEvent(retry=_RETRY_MS)
        try:
            async for news in follow(
                watch.subscription, self._reader, after=watch.after, deadline=watch.deadline
            ):
                yield render(news)
        except SQLAlchemyError as error:
            log.warning("stream.database_away", error=type(error).__name__)


def stream_router(streams: EventStreams) -> APIRouter:
    """Make the route that streams a job's events."""
    router = APIRouter(tags=["jobs"])

    async def watch(
        job_id: JobId,
        response: Response,
        header: Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)] = None,
        query: Annotated[
            str | None,
            Query(
                alias="last_event_id",
                max_length=100,
                description="For clients that cannot set Last-Event-ID",
            ),
        ] = None,
    ) -> AsyncIterator[Watch]:
        response.headers["Cache-Control"] = "no-store"
        opened = await streams.open(job_id, read_last_event_id(header or query))
        try:
            yield opened
        finally:
            streams.close(opened)

    @router.get(
        "/jobs/{job_id}/events",
        response_class=EventSourceResponse,
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses={
            204: {"description": "The job is finished, and the client has every event"},
            **responses(BadRequestError, NotFoundError, UnavailableError),
        },
    )
    async def stream_events(
        opened: Annotated[Watch, Depends(watch)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Stream a job's progress; resumes after `Last-Event-ID`, at whatever replica.

        The events `status`, `progress` and `ignored` (something that came late and changed
        nothing) carry a `JobEvent` and its sequence as id. While the job waits,
        `queue_position` tells its place in the lane. The stream ends with the job.
        """
        async for event in streams.events(opened):
            yield event

    return router
