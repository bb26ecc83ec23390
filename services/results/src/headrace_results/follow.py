"""Telling a client everything of a job, each event once and in order."""

from collections.abc import AsyncIterator
from typing import Final

from headrace_common.contracts import JobEvent
from headrace_results.metrics import STREAM_REPLAYS
from headrace_results.reader import JobReader
from headrace_results.subscription import QueuePosition, Signal, Subscription

#: Events read from the database at a time.
_PAGE: Final = 500


async def follow(
    subscription: Subscription, reader: JobReader, *, after: int, deadline: float
) -> AsyncIterator[JobEvent | QueuePosition]:
    """Tell what happened to a job after the event `after`, and what happens, until it is finished.

    The subscription is older than the first read of the database, so that nothing falls
    between them. What both bring is told once, and a gap between live events, which Redis may
    lose or bring out of order, is filled from the database.

    Args:
        subscription: to the job's live events.
        reader: of the database.
        after: last event that the client has.
        deadline: time of the event loop at which to end.
    """
    last = after
    news: JobEvent | QueuePosition | Signal = Signal.BEHIND
    while news is not Signal.END:
        final = False
        if isinstance(news, QueuePosition):
            yield news
        elif isinstance(news, JobEvent) and news.sequence == last + 1:
            yield news
            last, final = news.sequence, news.status.is_final
            subscription.note_sent(last, news.status)
        elif isinstance(news, Signal) or news.sequence > last:
            STREAM_REPLAYS.inc()
            async for event in _history(reader, subscription.job_id, last):
                yield event
                last, final = event.sequence, event.status.is_final
                subscription.note_sent(last, event.status)
        if final:
            return
        news = await subscription.next(deadline=deadline)


async def _history(reader: JobReader, job_id: str, after: int) -> AsyncIterator[JobEvent]:
    full = True
    while full:
        page = await reader.events_after(job_id, after, limit=_PAGE)
        for event in page:
            yield event
            after = event.sequence
        full = len(page) == _PAGE
