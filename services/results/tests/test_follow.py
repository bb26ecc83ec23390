"""What one client is told, whatever Redis loses, doubles or brings out of order."""

import asyncio
import random

import pytest
from results_harness import Bench

from headrace_common.contracts import EventType, JobEvent, JobStatus, Lane
from headrace_results.follow import follow
from headrace_results.reader import JobReader
from headrace_results.subscription import QueuePosition, Signal, Subscription


def event(sequence: int, status: JobStatus = JobStatus.QUEUED_FOR_ANALYSIS) -> JobEvent:
    return JobEvent.model_validate(
        {
            "job_id": "j",
            "sequence": sequence,
            "type": EventType.PROGRESS,
            "status": status,
            "progress": 80,
            "message": "",
            "created_at": "2026-01-01T00:00:00Z",
        }
    )


async def take(subscription: Subscription) -> JobEvent | QueuePosition | Signal:
    return await subscription.next(deadline=asyncio.get_running_loop().time() + 0.05)


def test_news_come_in_order() -> None:
    async def scene() -> None:
        subscription = Subscription("j", capacity=3)
        subscription.offer(event(1))
        subscription.offer(event(2))
        assert await take(subscription) == event(1)
        assert await take(subscription) == event(2)

    asyncio.run(scene())


def test_a_stream_ends_at_its_deadline() -> None:
    async def scene() -> None:
        assert await take(Subscription("j", capacity=3)) is Signal.END

    asyncio.run(scene())


def test_a_slow_client_costs_bounded_memory() -> None:
    async def scene() -> None:
        subscription = Subscription("j", capacity=3)
        for sequence in range(1, 100):
            subscription.offer(event(sequence))
        assert await take(subscription) is Signal.BEHIND
        subscription.offer(event(100))
        assert await take(subscription) == event(100)

    asyncio.run(scene())


def test_a_poll_tells_of_what_was_lost_only() -> None:
    async def scene() -> None:
        subscription = Subscription("j", capacity=3)
        subscription.note_sent(4, JobStatus.PROCESSING)
        subscription.offer(event(5))
        subscription.check(5)
        assert await take(subscription) == event(5)
        subscription.check(6)
        assert await take(subscription) is Signal.BEHIND

    asyncio.run(scene())


def test_a_place_is_told_when_it_changes_while_the_job_waits() -> None:
    async def scene() -> None:
        subscription = Subscription("j", capacity=3)
        subscription.offer_place(Lane.HIGH, 7)
        assert await take(subscription) is Signal.END
        subscription.note_sent(3, JobStatus.QUEUED)
        told: list[JobEvent | QueuePosition | Signal] = []
        for place in (7, 7, 6):
            subscription.offer_place(Lane.HIGH, place)
            told.append(await take(subscription))
        assert told == [
            QueuePosition(job_id="j", place=7, lane=Lane.HIGH),
            Signal.END,
            QueuePosition(job_id="j", place=6, lane=Lane.HIGH),
        ]
        subscription.offer_place(Lane.HIGH, 5)
        subscription.note_sent(4, JobStatus.PROCESSING)
        assert await take(subscription) is Signal.END

    asyncio.run(scene())


@pytest.mark.stack
@pytest.mark.parametrize("seed", range(20))
def test_every_event_is_told_once_and_in_order(bench: Bench, seed: int) -> None:
    """Events happen while they are told; Redis drops, doubles and reorders them at random."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    job_id = bench.job()
    after = chance.randint(0, 4)

    async def happen(subscription: Subscription) -> None:
        held: list[JobEvent] = []
        for percent in range(81, 99):
            known = len(bench.events(job_id))
            await asyncio.to_thread(bench.progress, job_id, percent)
            held += bench.events(job_id)[known:]
            held += chance.sample(held, chance.randint(0, len(held)))
            chance.shuffle(held)
            for _ in range(chance.randint(0, len(held))):
                subscription.offer(held.pop())
            await asyncio.sleep(0)
        await asyncio.to_thread(bench.change, job_id, JobStatus.COMPLETED)
        subscription.check(len(bench.events(job_id)))

    async def scene() -> list[int]:
        subscription = Subscription(job_id, capacity=4)
        reader = JobReader(bench.database, threads=2)
        happening = asyncio.create_task(happen(subscription))
        deadline = asyncio.get_running_loop().time() + 120
        told = [
            news.sequence
            async for news in follow(subscription, reader, after=after, deadline=deadline)
            if isinstance(news, JobEvent)
        ]
        await happening
        return told

    told = asyncio.run(scene())

    assert told == list(range(after + 1, len(bench.events(job_id)) + 1))


@pytest.mark.stack
def test_a_long_history_is_told_page_by_page(bench: Bench) -> None:
    job_id = bench.job()
    for _ in range(1_100):
        bench.progress(job_id, 85)
    bench.change(job_id, JobStatus.CANCELLED)

    async def scene() -> list[int]:
        subscription = Subscription(job_id, capacity=1)
        reader = JobReader(bench.database, threads=1)
        deadline = asyncio.get_running_loop().time() + 120
        return [
            news.sequence
            async for news in follow(subscription, reader, after=0, deadline=deadline)
            if isinstance(news, JobEvent)
        ]

    assert asyncio.run(scene()) == list(range(1, 1_107))


@pytest.mark.stack
def test_a_gap_between_live_events_is_filled_at_once(bench: Bench) -> None:
    job_id = bench.job()

    def happen() -> JobEvent:
        for percent in (85, 90):
            bench.progress(job_id, percent)
        bench.change(job_id, JobStatus.COMPLETED)
        return bench.events(job_id)[-1]

    async def scene() -> list[int]:
        subscription = Subscription(job_id, capacity=10)
        reader = JobReader(bench.database, threads=1)
        deadline = asyncio.get_running_loop().time() + 120
        told: list[int] = []
        async for news in follow(subscription, reader, after=4, deadline=deadline):
            assert isinstance(news, JobEvent)
            if not told:  # the history is read; of what happens now only the last is brought
                subscription.offer(await asyncio.to_thread(happen))
            told.append(news.sequence)
        return told

    assert asyncio.run(scene()) == [5, 6, 7, 8]
