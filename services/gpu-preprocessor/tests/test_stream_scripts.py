"""Every script, against real servers: what it does, and that it does nothing for others."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import redis
from stream_harness import Bench

from headrace_gpu_preprocessor.stream.connections import command_client
from headrace_gpu_preprocessor.stream.deliveries import Claimed, Hold, Refusal
from headrace_gpu_preprocessor.stream.errors import LeaseLostError
from headrace_gpu_preprocessor.stream.store import StreamStore
from headrace_local.waiting import wait_until

Answer = TypeVar("Answer")
REPORT = {"report": "{}"}


class Hand:
    """A consumer's hand on the stream, moved from a test."""

    def __init__(self, bench: Bench, name: str = "one") -> None:
        self.bench = bench
        self.name = name

    def do(self, act: Callable[[StreamStore], Coroutine[Any, Any, Answer]]) -> Answer:
        async def run() -> Answer:
            settings = self.bench.settings(consumer_name=self.name)
            async with command_client(settings) as client:
                return await act(StreamStore(client, settings))

        return asyncio.run(run())

    def read(self, count: int = 10) -> list[Hold]:
        rows = self.bench.redis.xreadgroup(
            "workers", self.name, {self.bench.stream: ">"}, count=count
        )
        return [Hold(entry_id, 1) for _, entries in rows for entry_id, _ in entries]

    def claim(self, *running: str, count: int = 10, own: bool = False, idle: float = 0) -> Claimed:
        return self.do(
            lambda store: store.claim(count=count, running=running, idle_seconds=idle, own=own)
        )


@pytest.fixture
def hand(bench: Bench) -> Hand:
    hand = Hand(bench)
    assert hand.do(StreamStore.ensure_group)
    return hand


def test_the_group_is_made_once_and_sees_what_was_added_before(bench: Bench) -> None:
    bench.add(2)
    hand = Hand(bench)
    assert hand.do(StreamStore.ensure_group) is True
    assert hand.do(StreamStore.ensure_group) is False
    assert len(hand.read()) == 2


def test_finish_acknowledges_and_reports_in_one_step(hand: Hand, bench: Bench) -> None:
    bench.add()
    [hold] = hand.read()
    assert hand.do(lambda store: store.finish(hold, REPORT))
    assert bench.pending() == 0
    assert bench.redis.xlen(f"{bench.stream}:reports") == 1


def test_retry_keeps_the_entry_until_it_is_due(hand: Hand, bench: Bench) -> None:
    bench.add()
    [hold] = hand.read()
    fields = {"cctvId": "카메라", "attempt": "1", "extra": '{"a": "b"}'}
    assert hand.do(lambda store: store.retry(hold, fields, delay_seconds=600, report=REPORT))
    assert bench.pending() == 0
    assert bench.delayed() == [{"from": hold.entry_id, "fields": fields}]
    promoted = hand.do(StreamStore.promote)
    assert promoted.moved == 0
    assert promoted.next_in_seconds is not None
    assert promoted.next_in_seconds <= 600
    [member] = bench.redis.zrange(f"{bench.stream}:delayed", 0, -1)
    bench.redis.zincrby(f"{bench.stream}:delayed", -600_000, member)  # ten minutes go by
    assert hand.do(StreamStore.promote).moved == 1
    assert bench.delayed() == []
    assert hand.do(StreamStore.promote).next_in_seconds is None
    [(_, row)] = bench.redis.xrange(bench.stream, min=f"({hold.entry_id}")
    assert row == fields


def test_a_member_that_nobody_can_read_goes_to_the_dead_letters(hand: Hand, bench: Bench) -> None:
    bench.redis.zadd(f"{bench.stream}:delayed", {"{broken": 1, '{"fields": []}': 2})
    promoted = hand.do(StreamStore.promote)
    assert (promoted.moved, promoted.buried) == (0, 2)
    assert [letter["member"] for letter in bench.letters()] == ["{broken", '{"fields": []}']
    assert {letter["code"] for letter in bench.letters()} == {"malformed_entry"}


def test_bury_moves_bytes_as_they_came(hand: Hand, bench: Bench) -> None:
    bench.redis.xadd(bench.stream, {"hls": b"\xff\x00"})
    [hold] = hand.read()
    letter = {b"hls": b"\xff\x00", b"reason": b"unreadable"}
    assert hand.do(lambda store: store.bury(hold, letter, {}))
    assert bench.pending() == 0
    assert bench.redis.xlen(f"{bench.stream}:reports") == 0
    [row] = bench.letters()
    assert {name: value.encode(errors="surrogateescape") for name, value in row.items()} == {
        "hls": b"\xff\x00",
        "reason": b"unreadable",
    }


def test_handed_back_is_anybodys_at_once_and_not_counted(hand: Hand, bench: Bench) -> None:
    bench.add()
    [hold] = hand.read()
    assert hand.do(lambda store: store.hand_back(hold))
    assert bench.pending() == 1
    other = Hand(bench, "two")
    [delivery] = other.claim(idle=86_400).deliveries
    assert delivery.hold == Hold(hold.entry_id, 1)
    assert not hand.do(lambda store: store.finish(hold, REPORT)), "it is another's now"


ENDS: dict[str, Callable[[StreamStore, Hold], Coroutine[Any, Any, bool]]] = {
    "finish": lambda store, hold: store.finish(hold, REPORT),
    "retry": lambda store, hold: store.retry(hold, {"a": "b"}, delay_seconds=0, report=REPORT),
    "bury": lambda store, hold: store.bury(hold, {"a": "b"}, REPORT),
    "hand_back": lambda store, hold: store.hand_back(hold),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_who_lost_the_entry_changes_nothing(
    hand: Hand, bench: Bench, end: Callable[[StreamStore, Hold], Coroutine[Any, Any, bool]]
) -> None:
    bench.add()
    [hold] = hand.read()

    def untouched() -> None:
        assert bench.redis.xlen(f"{bench.stream}:reports") == 0
        assert bench.letters() == bench.delayed() == []

    # The same consumer, another delivery; another consumer; acknowledged; the group gone.
    [again] = hand.claim(own=True).deliveries
    assert again.hold == Hold(hold.entry_id, 2)
    assert not hand.do(lambda store: end(store, hold))
    [taken] = Hand(bench, "two").claim().deliveries
    assert not hand.do(lambda store: end(store, taken.hold))
    assert bench.pending() == 1
    bench.redis.xack(bench.stream, "workers", hold.entry_id)
    assert not hand.do(lambda store: end(store, taken.hold))
    bench.redis.delete(bench.stream)
    assert not hand.do(lambda store: end(store, taken.hold))
    untouched()


@pytest.mark.parametrize("end", ["finish", "retry", "bury"])
def test_nothing_is_acknowledged_where_the_rest_cannot_be_done(
    hand: Hand, bench: Bench, end: str
) -> None:
    bench.add()
    [hold] = hand.read()
    bench.redis.set(f"{bench.stream}:reports", "no stream")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        hand.do(lambda store: ENDS[end](store, hold))
    assert bench.pending() == 1
    assert bench.letters() == bench.delayed() == []


def test_renewal_resets_idle_and_steals_nothing_back(hand: Hand, bench: Bench) -> None:
    bench.add(2)
    mine, other = hand.read()
    wait_until(lambda: _idle(bench, mine), lambda idle: idle > 60)
    Hand(bench, "two").claim(mine.entry_id)
    began = time.monotonic()
    assert hand.do(lambda store: store.renew([mine, other])) == {other.entry_id}
    idle = _idle(bench, mine)
    assert idle <= (time.monotonic() - began) * 1_000 + 30, "no longer than since it was asked"
    owners = {row["message_id"]: row for row in _rows(bench)}
    assert owners[mine.entry_id]["times_delivered"] == 1, "renewing is no delivery"
    assert owners[other.entry_id]["consumer"] == "two"


def test_claiming_leaves_what_runs_and_what_is_fresh(hand: Hand, bench: Bench) -> None:
    bench.add(4)
    first, second, third, fourth = hand.read()
    other = Hand(bench, "two")
    assert other.claim(idle=60).deliveries == []
    taken = other.claim(first.entry_id, count=2)
    assert [each.hold for each in taken.deliveries] == [
        Hold(second.entry_id, 2),
        Hold(third.entry_id, 2),
    ]
    assert [each.hold.entry_id for each in hand.claim(own=True).deliveries] == [
        first.entry_id,
        fourth.entry_id,
    ]


def test_claiming_goes_through_many_pages_and_drops_what_was_deleted(
    hand: Hand, bench: Bench
) -> None:
    bench.add(230)
    ids = [hold.entry_id for hold in hand.read(300)]
    bench.redis.xdel(bench.stream, ids[3], ids[150])
    claimed = Hand(bench, "two").claim(*ids[:100], count=500)
    assert claimed.deleted == [ids[150]]
    assert [each.hold.entry_id for each in claimed.deliveries] == [
        each for each in ids[100:] if each != ids[150]
    ]
    assert bench.pending() == 229


def test_trimming_keeps_what_any_group_needs(hand: Hand, bench: Bench) -> None:
    jobs = bench.add(6)
    assert len(jobs) == 6
    holds = hand.read()
    bench.redis.xgroup_create(bench.stream, "results", id="0")
    for hold in (*holds[:2], *holds[3:]):
        assert hand.do(lambda store, hold=hold: store.finish(hold, {}))  # type: ignore[misc]
    assert hand.do(StreamStore.trim) == 0, "the other group has read nothing yet"
    read = bench.redis.xreadgroup("results", "r", {bench.stream: ">"}, count=2)
    assert len(read[0][1]) == 2
    assert hand.do(StreamStore.trim) == 0, "it has not acknowledged the first"
    bench.redis.xack(bench.stream, "results", *[entry_id for entry_id, _ in read[0][1]])
    assert hand.do(StreamStore.trim) == 1, "it was handed the second last"
    bench.redis.xreadgroup("results", "r", {bench.stream: ">"}, noack=True)
    assert hand.do(StreamStore.trim) == 1
    assert bench.redis.xrange(bench.stream)[0][0] == holds[2].entry_id, "the oldest pending one"
    assert hand.do(lambda store: store.finish(holds[2], {}))
    assert hand.do(StreamStore.trim) == 3
    assert bench.redis.xlen(bench.stream) == 1


def test_without_groups_entries_stay_and_reports_are_capped(bench: Bench) -> None:
    bench.add(3)
    settings = bench.settings(redis_report_cap=5)

    async def trim() -> int:
        async with command_client(settings) as client:
            return await StreamStore(client, settings).trim()

    for number in range(8):
        bench.redis.xadd(f"{bench.stream}:reports", {"n": number})
    assert asyncio.run(trim()) == 3
    assert bench.redis.xlen(bench.stream) == 3
    assert bench.redis.xlen(f"{bench.stream}:reports") == 5


def test_progress_is_not_reported_where_nobody_reads(bench: Bench) -> None:
    settings = bench.settings(redis_report_cap=3)

    async def report() -> list[bool]:
        async with command_client(settings) as client:
            store = StreamStore(client, settings)
            return [await store.report(REPORT) for _ in range(5)]

    assert asyncio.run(report()) == [True, True, True, False, False]


def test_only_empty_consumers_are_removed_and_never_oneself(hand: Hand, bench: Bench) -> None:
    bench.add(3)
    hand.read(1)
    Hand(bench, "busy").read(1)
    gone = Hand(bench, "gone")
    [hold] = gone.read(1)
    assert gone.do(lambda store: store.finish(hold, {}))

    def retire(idle: float) -> list[str]:
        return hand.do(lambda store: store.retire_consumers(idle_seconds=idle))

    assert retire(60) == []
    assert retire(0) == ["gone"]
    assert {each["name"] for each in bench.redis.xinfo_consumers(bench.stream, "workers")} == {
        "one",
        "busy",
    }
    assert bench.pending() == 2


def test_two_hands_never_hold_the_same(hand: Hand, bench: Bench) -> None:
    bench.add(50)

    async def take(name: str) -> set[str]:
        settings = bench.settings(consumer_name=name)
        taken: set[str] = set()
        async with command_client(settings) as client:
            store = StreamStore(client, settings)
            for _ in range(10):
                claimed = await store.claim(count=5, running=(), idle_seconds=3_600)
                taken |= {each.hold.entry_id for each in claimed.deliveries}
        return taken

    async def all_take() -> list[set[str]]:
        return list(await asyncio.gather(*[take(f"taker-{n}") for n in range(4)]))

    for hold in hand.read(50):
        assert hand.do(lambda store, hold=hold: store.hand_back(hold))  # type: ignore[misc]
    taken = asyncio.run(all_take())
    assert sum(len(each) for each in taken) == len(set().union(*taken)) == 50


def test_scripts_are_loaded_again_after_they_were_forgotten(hand: Hand, bench: Bench) -> None:
    bench.add(2)
    first, second = hand.read()
    assert hand.do(lambda store: store.finish(first, {}))
    bench.redis.script_flush()
    assert hand.do(lambda store: store.finish(second, {}))


def _rows(bench: Bench) -> list[dict[str, Any]]:
    return list(bench.redis.xpending_range(bench.stream, "workers", "-", "+", 100))


def _idle(bench: Bench, hold: Hold) -> int:
    [row] = [row for row in _rows(bench) if row["message_id"] == hold.entry_id]
    return int(row["time_since_delivered"])


def test_of_two_entries_of_a_job_one_is_worked_on(hand: Hand, bench: Bench) -> None:
    bench.add(3)
    first, twin, later = hand.read()
    assert hand.do(lambda store: store.begin(first, "job")) is None
    assert hand.do(lambda store: store.begin(first, "job")) is None  # asked again
    assert hand.do(lambda store: store.begin(twin, "job")) is Refusal.DUPLICATE
    assert bench.pending() == 2
    hand.do(lambda store: store.finish(first, REPORT))
    # The first has ended: whether there is anything left to do is the handler's to find out.
    assert hand.do(lambda store: store.begin(later, "job")) is None


def test_an_entry_of_another_consumer_cannot_begin(hand: Hand, bench: Bench) -> None:
    bench.add()
    [hold] = hand.read()
    other = Hand(bench, "other")
    with pytest.raises(LeaseLostError):
        other.do(lambda store: store.begin(hold, "job"))
    assert bench.redis.hlen(f"{bench.stream}:running") == 0


def test_jobs_that_have_ended_are_forgotten(hand: Hand, bench: Bench) -> None:
    bench.add(2)
    ended, running = hand.read()
    hand.do(lambda store: store.begin(ended, "ended"))
    hand.do(lambda store: store.begin(running, "running"))
    hand.do(lambda store: store.finish(ended, REPORT))
    assert hand.do(StreamStore.forget_ended) == 1
    assert bench.redis.hgetall(f"{bench.stream}:running") == {"running": running.entry_id}
