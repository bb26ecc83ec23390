"""Server-Sent Events (A11)."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from results_harness import (
    DEADLINE_SECONDS,
    Bench,
    Collector,
    Replica,
    Sse,
    running,
    streaming,
)

from headrace_common.contracts import EVENTS_CHANNEL, JobStatus, Lane
from headrace_common.jobs import Change
from headrace_local.waiting import wait_until

if TYPE_CHECKING:
    from headrace_local.pytest_plugin import LocalServers

pytestmark = pytest.mark.stack


@pytest.fixture
def replica(replicas: list[Replica]) -> Replica:
    return replicas[0]


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive()


def ids(events: list[Sse]) -> list[int]:
    return [int(event.id) for event in events if event.id is not None]


def test_a_job_is_followed_to_its_end(bench: Bench, replica: Replica) -> None:
    job_id = bench.job(JobStatus.QUEUED)
    collector = Collector(bench, replica, job_id)
    collector.wait_for(3)

    for step in (JobStatus.PROCESSING, JobStatus.QUEUED_FOR_ANALYSIS):
        bench.change(job_id, step)
    bench.progress(job_id, 90)
    bench.change(job_id, JobStatus.COMPLETED, message="Done")
    collector.end()

    assert collector.seen[0] == Sse(event=None, id=None, data=None, retry=2000)
    assert collector.ids == [1, 2, 3, 4, 5, 6, 7]
    names = [event.event for event in collector.seen if event.id]
    assert names == ["status"] * 5 + ["progress", "status"]
    stored = [event.model_dump(mode="json") for event in bench.events(job_id)]
    assert [event.data for event in collector.seen if event.id] == stored


def test_the_answer_is_a_stream_that_nobody_buffers(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    bench.change(job_id, JobStatus.COMPLETED)

    answer = bench.get(replica, f"/jobs/{job_id}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.text.startswith("retry: 2000\n\nevent: status\ndata: {")


def test_a_finished_job_tells_its_history_and_ends(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    bench.change(job_id, JobStatus.CANCELLED)
    bench.change(job_id, JobStatus.COMPLETED)

    collector = Collector(bench, replica, job_id).end()

    assert collector.ids == [1, 2, 3, 4, 5, 6, 7]
    assert collector.seen[-1].event == "ignored"


@pytest.mark.parametrize("by", ["header", "query"])
def test_a_client_that_has_everything_is_told_to_stay_away(
    bench: Bench, replica: Replica, by: str
) -> None:
    job_id = bench.job()
    bench.change(job_id, JobStatus.COMPLETED)
    headers = bench.authorization | ({"Last-Event-ID": "6"} if by == "header" else {})
    query = {"last_event_id": "6"} if by == "query" else {}

    answer = httpx.get(
        f"{replica.url}/jobs/{job_id}/events", params=query, headers=headers, timeout=30
    )

    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "99", "9" * 30, "²"])
def test_an_id_that_is_none_of_the_jobs_is_400(bench: Bench, replica: Replica, last: str) -> None:
    headers = [
        (name.encode(), value.encode("latin-1"))
        for name, value in {**bench.authorization, "Last-Event-ID": last}.items()
    ]
    answer = httpx.get(f"{replica.url}/jobs/{bench.job()}/events", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_stream_that_was_cut_goes_on_at_another_replica(
    bench: Bench, replicas: list[Replica]
) -> None:
    """Cut again and again while events keep coming; none is lost, none comes twice."""
    job_id = bench.job()

    def work() -> None:
        for number in range(300):
            bench.progress(job_id, 80 + number // 16)
        bench.change(job_id, JobStatus.COMPLETED)

    seen: list[Sse] = []
    cuts = 0
    with meanwhile(work):
        while not seen or seen[-1].data is None or seen[-1].data["status"] != "completed":
            last = str(ids(seen)[-1]) if seen else None
            with streaming(bench, replicas[cuts % 2], job_id, last=last) as events:
                for event in events:
                    if event.id is not None:
                        seen.append(event)
                        if len(seen) % 40 == 0:
                            break
            cuts += 1

    assert ids(seen) == list(range(1, 307))
    assert cuts >= 7


def test_the_place_in_the_lane_is_told_while_it_changes(bench: Bench, replica: Replica) -> None:
    first, second = (bench.job(JobStatus.QUEUED, lane=Lane.LOW) for _ in range(2))
    collector = Collector(bench, replica, second)

    wait_until(lambda: collector.named("queue_position"))
    bench.change(first, JobStatus.PROCESSING)
    wait_until(lambda: len(collector.named("queue_position")) == 2)
    bench.change(second, JobStatus.PROCESSING)
    bench.change(second, JobStatus.CANCELLED)
    collector.end()

    places = [event.data for event in collector.named("queue_position")]
    assert [set(place or {}) for place in places] == [{"job_id", "place", "lane"}] * 2
    before, after = ((place or {})["place"] for place in places)
    assert before - after == 1
    assert all(event.id is None for event in collector.named("queue_position"))


def test_redis_may_go_and_come_back(
    bench: Bench, replica: Replica, local_servers: "LocalServers"
) -> None:
    job_id = bench.job()
    collector = Collector(bench, replica, job_id)
    collector.wait_for(5)

    local_servers.stop("valkey")
    try:
        wait_until(lambda: replica.metric("headrace_sse_hub_connected") == 0)
        for percent in (82, 84, 86):
            bench.progress(job_id, percent)
        collector.wait_for(8)
    finally:
        local_servers.start("valkey")
    wait_until(lambda: replica.metric("headrace_sse_hub_connected") == 1)
    bench.progress(job_id, 90)
    bench.change(job_id, JobStatus.COMPLETED)
    collector.end()

    assert collector.ids == list(range(1, 11))


def test_redis_may_freeze(bench: Bench, replica: Replica, local_servers: "LocalServers") -> None:
    """A connection that is open and silent is given up, and the database polled instead."""
    job_id = bench.job()
    collector = Collector(bench, replica, job_id)
    collector.wait_for(5)

    local_servers.kill("valkey", signal.SIGSTOP)
    try:
        answer = bench.report(replica, job_id, {"status": "processing", "progress": 50})
        assert answer.status_code == 202
        collector.wait_for(6)
        wait_until(lambda: replica.metric("headrace_sse_hub_connected") == 0)
        answer = bench.report(replica, job_id, {"status": "completed"})
        collector.end()
    finally:
        local_servers.kill("valkey", signal.SIGCONT)
    wait_until(lambda: replica.metric("headrace_sse_hub_connected") == 1)

    assert collector.ids == [1, 2, 3, 4, 5, 6, 7]


def test_an_event_that_redis_never_brought_is_found(bench: Bench, replica: Replica) -> None:
    """The safety poll finds what was committed and not published, with Redis healthy."""
    job_id = bench.job()
    collector = Collector(bench, replica, job_id)
    collector.wait_for(5)

    with bench.database.begin() as session:
        bench.store.apply_in(
            session, [Change(job_id=job_id, to=JobStatus.COMPLETED, message="unpublished")]
        )
    collector.end()

    assert collector.ids == [1, 2, 3, 4, 5, 6]


def test_what_redis_brings_beside_events_disturbs_nobody(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    collector = Collector(bench, replica, job_id)
    collector.wait_for(5)

    for junk in ("", "{}", "\0", '{"job_id": "x"}'):
        bench.redis.publish(EVENTS_CHANNEL, junk)
    bench.change(job_id, JobStatus.COMPLETED)
    collector.end()

    assert collector.ids == [1, 2, 3, 4, 5, 6]


def test_two_hundred_clients_share_one_subscription(bench: Bench, replicas: list[Replica]) -> None:
    jobs = [bench.job() for _ in range(4)]
    replica = replicas[0]
    # A client hears of the end of its stream a moment before the server has counted it out.
    wait_until(lambda: replica.metric("headrace_sse_clients") == 0)

    async def read(client: httpx.AsyncClient, job_id: str) -> list[str]:
        url = f"{replica.url}/jobs/{job_id}/events"
        async with client.stream("GET", url, headers=bench.authorization) as answer:
            return [
                line.removeprefix("id: ")
                async for line in answer.aiter_lines()
                if line.startswith("id: ")
            ]

    def subscribers() -> int:
        channel: Any = bench.redis.pubsub_numsub(EVENTS_CHANNEL)
        return int(channel[0][1])

    async def scene() -> list[list[str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            reading = [asyncio.create_task(read(client, jobs[number % 4])) for number in range(200)]
            await asyncio.to_thread(
                wait_until, lambda: replica.metric("headrace_sse_clients") == 200
            )
            # A replica whose connection another test has cut may be about to come back.
            await asyncio.to_thread(wait_until, subscribers, lambda seen: seen == len(replicas))
            for job_id in jobs:
                await asyncio.to_thread(bench.progress, job_id, 90)
                await asyncio.to_thread(bench.change, job_id, JobStatus.COMPLETED)
            return await asyncio.gather(*reading)

    told = asyncio.run(scene())

    assert told == [[str(number) for number in range(1, 8)]] * 200
    wait_until(lambda: replica.metric("headrace_sse_clients") == 0)


def test_too_many_clients_are_sent_away(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    job_id = bench.job()
    with running(service_env, tmp_path / "log", SSE_MAX_CLIENTS="2") as replica:
        with streaming(bench, replica, job_id) as one, streaming(bench, replica, job_id) as two:
            next(one)
            next(two)
            refused = bench.get(replica, f"/jobs/{job_id}/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) > 0
        wait_until(lambda: replica.metric("headrace_sse_clients") == 0)
        with streaming(bench, replica, job_id) as again:
            next(again)


def test_a_stream_ends_after_its_time_and_is_resumed(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    job_id = bench.job()
    with running(service_env, tmp_path / "log", SSE_MAX_SECONDS="2") as replica:
        collector = Collector(bench, replica, job_id).end()
        assert collector.ids == [1, 2, 3, 4, 5]
        bench.change(job_id, JobStatus.COMPLETED)
        assert Collector(bench, replica, job_id, last="5").end().ids == [6]


def test_a_client_that_does_not_read_costs_bounded_memory_and_loses_nothing(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    job_id = bench.job()
    filler = "x" * 50_000
    with (
        running(service_env, tmp_path / "log", SSE_QUEUE_EVENTS="5") as replica,
        streaming(bench, replica, job_id) as events,
    ):
        next(events)
        for _ in range(200):
            bench.change(
                job_id, JobStatus.QUEUED_FOR_ANALYSIS, progress=90, data={"filler": filler}
            )
        bench.change(job_id, JobStatus.COMPLETED)
        assert ids(list(events)) == list(range(1, 207))
        assert replica.metric("headrace_sse_replays_total") >= 2


def test_a_stop_ends_streams_at_once_and_cleanly(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    job_id = bench.job()
    grace = 120
    changed = {**service_env, "SHUTDOWN_GRACE_SECONDS": str(grace)}
    with running(changed, tmp_path / "log") as replica:
        collectors = [Collector(bench, replica, job_id) for _ in range(5)]
        for collector in collectors:
            collector.wait_for(5)
        seconds = replica.stop()
        for collector in collectors:
            collector.end()  # a clean end of the chunked body, or httpx would raise
        assert seconds < grace / 2, "the stop waited for its streams"
        assert replica.process.returncode == 0
        assert "worker.stopped" in replica.log
        assert "Traceback" not in replica.log


def test_a_stream_that_is_opened_while_the_replica_stops_tells_what_there_is(
    bench: Bench, service_env: dict[str, str], tmp_path: Path
) -> None:
    job_id = bench.job()
    with running({**service_env, "DRAIN_SECONDS": "60"}, tmp_path / "log") as replica:
        # Its connection is kept, and leads to this replica still when the stop has begun.
        with httpx.Client(headers=bench.authorization, timeout=60) as client:
            assert client.get(f"{replica.url}/jobs/{job_id}").is_success
            replica.process.terminate()
            wait_until(lambda: "process.draining" in replica.log, seconds=60)
            answer = client.get(f"{replica.url}/jobs/{job_id}/events")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert "retry: " in answer.text
        assert [line for line in answer.text.splitlines() if line.startswith("id: ")] == [
            f"id: {number}" for number in range(1, 6)
        ]
        replica.process.wait(60)


def test_the_database_may_go_and_come_back(
    bench: Bench, replica: Replica, local_servers: "LocalServers"
) -> None:
    job_id = bench.job()
    collector = Collector(bench, replica, job_id)
    collector.wait_for(5)

    local_servers.restart("postgres")

    def completed() -> bool:
        try:
            bench.change(job_id, JobStatus.COMPLETED)
        except Exception:  # noqa: BLE001 - the pool notices dead connections one by one
            return False
        return True

    wait_until(completed)
    collector.end()
    last = str(collector.ids[-1])
    if last == "5":
        assert Collector(bench, replica, job_id, last=last).end().ids == [6]
    else:
        assert last == "6"
