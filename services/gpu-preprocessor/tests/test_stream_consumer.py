"""The consumer on real servers: what becomes of entries, of concurrency, and of a stop."""

import threading
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from stream_harness import Bench, Effects, Gate

from headrace_common.contracts.cctv import CctvState, Stage
from headrace_common.errors import NotFoundError, UnavailableError
from headrace_common.telemetry import trace_id
from headrace_gpu_preprocessor.admission import AdmissionSettings, MemoryGuard, MemoryReading
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_local.waiting import wait_until


def hold_all(bench: Bench, effects: Effects, number: int) -> list[str]:
    """Wait until so many jobs run."""
    wait_until(lambda: len(effects.begun), lambda begun: begun >= number)
    return list(effects.begun)


def test_an_entry_as_java_writes_it_is_done_acknowledged_and_reported(bench: Bench) -> None:
    def work(job: LeasedJob) -> None:
        job.progress(Stage.READING, 30, "Reading")
        wait_until(lambda: len(bench.reports()) == 2)

    effects = Effects(work)
    bench.consumer(effects)
    bench.redis.xadd(
        bench.stream,
        {
            "cctvId": "cam-7",
            "hls": "https://camera/live.m3u8",
            "sec": "20",
            "attempt": "0",
            "enqueuedAt": "1764102000000",
        },
    )
    [job_id] = wait_until(bench.ended)
    wait_until(bench.pending, lambda count: count == 0)
    assert effects.done == [job_id]
    reports = bench.reports()
    assert [(r.state, r.stage, r.progress) for r in reports] == [
        (CctvState.PROCESSING, None, 0),
        (CctvState.PROCESSING, Stage.READING, 30),
        (CctvState.COMPLETED, None, 100),
    ]
    last = reports[-1]
    assert last.result is not None
    assert last.entry["cctvId"] == "cam-7"
    assert (last.consumer, last.delivery) == ("one", 1)


def test_the_job_runs_with_the_trace_of_its_entry(bench: Bench) -> None:
    seen: dict[str, Any] = {}

    def look(job: LeasedJob) -> None:
        seen.update(structlog.contextvars.get_contextvars(), trace=trace_id())

    bench.consumer(Effects(look))
    trace = "0af7651916cd43dd8448eb211c80319c"
    [job] = bench.add(traceparent=f"00-{trace}-b7ad6b7169203331-01")
    bench.wait_ended([job])
    assert seen["trace"] == trace
    assert seen["job_id"] == job
    [row] = [row for _, row in bench.redis.xrevrange(f"{bench.stream}:reports", count=1)]
    assert trace in row["traceparent"]


def test_progress_is_told_by_stage_and_about_once_a_second(bench: Bench) -> None:
    seconds = 0.0

    def stages() -> list[Stage | None]:
        return [report.stage for report in bench.reports(CctvState.PROCESSING)]

    def work(job: LeasedJob) -> None:
        nonlocal seconds
        began = time.monotonic()

        def is_told() -> bool:
            job.progress(Stage.READING, (time.monotonic() - began) * 0.1, "Reading")
            return stages().count(Stage.READING) == 2

        wait_until(is_told)
        seconds = time.monotonic() - began
        job.progress(Stage.DETECTING, 80, "Detecting")

    bench.consumer(Effects(work))
    bench.wait_ended(bench.add())
    first, *reading, last = stages()
    assert (first, set(reading), last) == (None, {Stage.READING}, Stage.DETECTING)
    assert seconds >= 1, "it was offered many times a second"
    assert len(reading) <= 2 + seconds


def test_what_fails_is_retried_until_it_is_done(bench: Bench) -> None:
    seen: list[tuple[int, int]] = []

    def fail_twice(job: LeasedJob) -> None:
        seen.append((job.entry.attempt, job.delivery))
        if job.entry.attempt < 2:
            raise UnavailableError("camera away", retry_after=0.1)

    consumer = bench.consumer(Effects(fail_twice))
    [job] = bench.add(extra="kept")
    bench.wait_ended([job])
    assert seen == [(0, 1), (1, 1), (2, 1)]
    queued = bench.reports(CctvState.QUEUED)
    assert [r.error.code for r in queued if r.error] == ["unavailable"] * 2
    assert all(r.retry_at is not None and r.retry_at > r.at for r in queued)
    assert bench.reports()[-1].entry == queued[0].entry | {"attempt": "2"}
    assert queued[0].entry["extra"] == "kept"
    wait_until(lambda: asdict(consumer.counts()), lambda counts: counts["processed"] == 1)
    assert asdict(consumer.counts()) == {"processed": 1, "failed": 2, "retried": 2, "dlq": 0}


def test_after_the_last_retry_it_is_a_dead_letter(bench: Bench) -> None:
    attempts: list[int] = []

    def fail(job: LeasedJob) -> None:
        attempts.append(job.entry.attempt)
        raise ZeroDivisionError("a bug")

    consumer = bench.consumer(Effects(fail), redis_max_retry=2)
    [job] = bench.add(extra="kept", reason="the producer's own")
    bench.wait_ended([job], CctvState.FAILED)
    assert attempts == [0, 1, 2]
    [letter] = bench.letters()
    assert letter["code"] == "internal_error"
    assert letter["reason"] == "after 2 retries: ZeroDivisionError: a bug"
    assert letter["attempt"] == "2"
    assert (letter["jobId"], letter["extra"], letter["consumer"]) == (job, "kept", "one")
    assert letter["deliveries"] == "1"
    assert {"failedAt", "sourceId", "hls", "sec", "cctvId", "enqueuedAt"} <= set(letter)
    assert bench.delayed() == []
    counters = wait_until(consumer.json_counters, lambda counters: counters["dlq"] == 1)
    assert (counters["failed"], counters["retried"]) == (3, 2)


def test_what_no_retry_can_help_is_a_dead_letter_at_once(bench: Bench) -> None:
    def fail(job: LeasedJob) -> None:
        raise NotFoundError("no such camera")

    effects = Effects(fail)
    bench.consumer(effects)
    [job] = bench.add()
    bench.wait_ended([job], CctvState.FAILED)
    assert len(effects.begun) == 1
    assert [letter["code"] for letter in bench.letters()] == ["not_found"]


@pytest.mark.parametrize(
    ("fields", "reported"),
    [
        ({"cctvId": "c", "hls": "file:///etc/passwd", "jobId": "j-1"}, ["j-1"]),
        ({"nonsense": "1"}, []),
        ({"cctvId": b"\xff\xfe", "jobId": "j-2"}, ["j-2"]),
        ({f"field-{n}": "x" for n in range(2_000)}, []),
        ({"cctvId": "c", "hls": "http://c/", "sec": "5", "enqueuedAt": "1", "attempt": "x"}, [""]),
        (
            {"cctvId": "c", "hls": "http://c/", "sec": "5", "enqueuedAt": "1", "roadRegion": "["},
            [""],
        ),
    ],
    ids=["hls", "nonsense", "bytes", "many", "attempt", "region"],
)
def test_what_is_no_job_is_a_dead_letter_at_once(
    bench: Bench, fields: dict[str, Any], reported: list[str]
) -> None:
    effects = Effects()
    bench.consumer(effects)
    bench.redis.xadd(bench.stream, fields)
    [letter] = wait_until(bench.letters)
    wait_until(bench.pending, lambda count: count == 0)
    assert effects.begun == []
    assert letter["code"] == "malformed_entry"
    assert letter["reason"]
    failed = bench.reports(CctvState.FAILED)
    assert [r.job_id if r.job_id in {"j-1", "j-2"} else "" for r in failed] == reported
    [good] = bench.add()
    bench.wait_ended([good])


def test_a_region_comes_back_with_each_attempt_and_in_the_dead_letter(bench: Bench) -> None:
    seen: list[Any] = []

    def fail(job: LeasedJob) -> None:
        seen.append(job.entry.road_region)
        raise UnavailableError("not now", retry_after=0.01)

    bench.consumer(Effects(fail), redis_max_retry=1)
    region = "[[[0.0,0.0],[1.0,0.0],[1.0,1.0]]]"
    [job] = bench.add(roadRegion=region)
    bench.wait_ended([job], CctvState.FAILED)
    assert seen == [(((0, 0), (1, 0), (1, 1)),)] * 2
    [letter] = bench.letters()
    assert (letter["jobId"], letter["attempt"], letter["roadRegion"]) == (job, "1", region)


def test_two_consumers_share_the_work_and_repeat_none(bench: Bench) -> None:
    def wait_for_both(_job: LeasedJob) -> None:
        wait_until(lambda: one.begun and two.begun)

    one, two = Effects(wait_for_both), Effects(wait_for_both)
    jobs = bench.add(60)
    bench.consumer(one, consumer_name="one", max_concurrency=4)
    bench.consumer(two, consumer_name="two", max_concurrency=4)
    bench.wait_ended(jobs)
    assert sorted(one.done + two.done) == sorted(jobs)
    assert one.done
    assert two.done


def test_never_more_is_read_than_can_run(bench: Bench) -> None:
    gate = Gate()
    effects = Effects(gate)
    bench.consumer(effects, max_concurrency=3)
    jobs = bench.add(10)
    hold_all(bench, effects, 3)
    assert bench.pending() == 3
    gate.let_go()
    bench.wait_ended(jobs)
    assert effects.most_at_once == 3


def test_concurrency_changes_under_load_and_nothing_is_lost_or_repeated(bench: Bench) -> None:
    gate = Gate()

    def work(job: LeasedJob) -> None:
        gate(job)
        time.sleep(0.01)

    effects = Effects(work)
    consumer = bench.consumer(effects, max_concurrency=2)
    jobs = bench.add(150)
    for number in (6, 1, 32, 3, 1, 8):
        assert consumer.set_concurrency(number) > 0
        if number == 6:
            wait_until(lambda: effects.most_at_once > 2)
            gate.let_go()
        goal = min(len(effects.done) + 10, len(jobs))
        wait_until(partial(effects.has_done, goal))
    bench.wait_ended(jobs)
    assert sorted(effects.begun) == sorted(jobs)
    assert effects.most_at_once > 2


def test_lower_concurrency_lets_running_jobs_finish(bench: Bench) -> None:
    gate = Gate()
    effects = Effects(gate)
    consumer = bench.consumer(effects, max_concurrency=4)
    jobs = bench.add(8)
    hold_all(bench, effects, 4)
    assert consumer.set_concurrency(1) == 4
    effects.most_at_once = 0
    gate.let_go()
    bench.wait_ended(jobs)
    assert sorted(effects.begun) == sorted(jobs)
    assert consumer.concurrency == 1
    for wrong in (0, 33):
        with pytest.raises(ValueError, match="1 to 32"):
            consumer.set_concurrency(wrong)


def test_a_lowered_read_is_woken_instead_of_bringing_too_much(bench: Bench) -> None:
    """The server would hand out as many entries as were asked for before."""
    gate = Gate()
    effects = Effects(gate)
    consumer = bench.consumer(effects, max_concurrency=8, redis_block_ms=60_000)
    wait_until(lambda: _blocked(bench) == 1)
    consumer.set_concurrency(1)
    wait_until(lambda: consumer.snapshot().concurrency == 1 and _blocked(bench) == 1)
    jobs = bench.add(5)
    hold_all(bench, effects, 1)
    gate.let_go()
    bench.wait_ended(jobs)
    assert effects.most_at_once == 1


def test_a_lowered_read_is_woken_once_and_the_next_ones_sleep(bench: Bench) -> None:
    consumer = bench.consumer(Effects(), max_concurrency=8, redis_block_ms=60_000)
    wait_until(lambda: _blocked(bench) == 1)
    before = _calls(bench)
    consumer.set_concurrency(4)
    consumer.set_concurrency(1)

    def calls() -> dict[str, int]:
        return {name: number - before.get(name, 0) for name, number in _calls(bench).items()}

    wait_until(calls, lambda more: more.get("cmdstat_client|unblock", 0) > 0)
    time.sleep(1.5)  # a rate is looked at; nothing is waited for
    more = calls()
    assert more.get("cmdstat_xreadgroup", 0) <= 3
    assert 1 <= more["cmdstat_client|unblock"] <= 3
    [job] = bench.add()
    bench.wait_ended([job])


def _calls(bench: Bench) -> dict[str, int]:
    """Calls of each command that reads and wakes."""
    stats = bench.redis.info("commandstats")
    return {
        name: int(stats[name]["calls"])
        for name in ("cmdstat_xreadgroup", "cmdstat_client|unblock")
        if name in stats
    }


def _blocked(bench: Bench) -> int:
    return int(bench.redis.info("clients")["blocked_clients"])


def test_paused_nothing_is_taken_and_what_runs_finishes(bench: Bench) -> None:
    gate = Gate()
    effects = Effects(gate)
    consumer = bench.consumer(effects, redis_block_ms=60_000)
    first = bench.add()
    hold_all(bench, effects, 1)
    consumer.pause()
    gate.let_go()
    bench.wait_ended(first)
    wait_until(lambda: _blocked(bench) == 0)
    later = bench.add(3)
    assert consumer.snapshot().paused
    assert bench.redis.xinfo_groups(bench.stream)[0]["pending"] == 0
    consumer.resume()
    bench.wait_ended(first + later)
    assert effects.begun[0] == first[0]


def test_a_long_job_that_lives_is_never_taken_over(bench: Bench) -> None:
    gate = Gate()
    effects, others = Effects(gate), Effects()
    bench.consumer(effects, redis_visibility_timeout=3, max_concurrency=1)
    [long] = bench.add()
    hold_all(bench, effects, 1)
    bench.consumer(others, consumer_name="two", redis_visibility_timeout=3)
    began = time.monotonic()
    while time.monotonic() - began < 7:  # well beyond the visibility timeout
        bench.add()
        wait_until(lambda: bench.ended() and others.done)
        time.sleep(0.1)
    assert long not in others.begun
    gate.let_go()
    wait_until(lambda: long in bench.ended())
    assert effects.done == [long]


def test_who_loses_the_lease_is_told_and_the_other_ends_the_job(bench: Bench) -> None:
    gate, told = Gate(), threading.Event()

    def work(job: LeasedJob) -> None:
        try:
            gate(job)
        finally:
            told.set()

    one, two = Effects(work), Effects()
    bench.consumer(one, max_concurrency=1)
    [job] = bench.add()
    hold_all(bench, one, 1)
    [row] = bench.redis.xpending_range(bench.stream, "workers", "-", "+", 1)
    bench.redis.xclaim(bench.stream, "workers", "handed-back", 0, [row["message_id"]], idle=10**9)
    assert told.wait(60)
    gate.let_go()
    bench.consumer(two, consumer_name="two")
    bench.wait_ended([job])
    assert one.done + two.done == [job]


@pytest.mark.parametrize("delivery", [1, 2])
def test_what_a_forgetful_server_hands_out_again_runs_once(bench: Bench, delivery: int) -> None:
    """As after a failover that lost the last writes, while the job goes on here."""
    gate = Gate()
    effects = Effects(gate)
    if delivery == 2:  # it was a process of the same name that died before
        bench.redis.xgroup_create(bench.stream, "workers", id="0", mkstream=True)
        [job] = bench.add()
        bench.redis.xreadgroup("workers", "one", {bench.stream: ">"})
    consumer = bench.consumer(effects, max_concurrency=3, redis_visibility_timeout=6)
    [job] = [job] if delivery == 2 else bench.add()
    hold_all(bench, effects, 1)
    [slot] = consumer.snapshot().slots
    assert slot.delivery == delivery
    with bench.redis.pipeline(transaction=True) as pipe:
        pipe.xack(bench.stream, "workers", slot.entry_id)
        pipe.xgroup_setid(bench.stream, "workers", "0")
        pipe.execute()
    [other] = bench.add()  # wakes the read
    wait_until(lambda: bench.redis.xinfo_groups(bench.stream)[0]["last-delivered-id"] != "0-0")
    wait_until(lambda: other in effects.begun)
    gate.let_go()
    bench.wait_ended([job, other])
    wait_until(lambda: consumer.snapshot().busy == 0)
    assert consumer.counts().processed == 2


def test_a_stop_lets_work_finish(bench: Bench) -> None:
    gate = Gate()
    effects = Effects(gate)
    consumer = bench.consumer(effects, max_concurrency=2)
    jobs = bench.add(5)
    running = hold_all(bench, effects, 2)
    consumer.ask_to_stop(grace_seconds=120)
    gate.let_go()
    assert consumer.join(timeout_seconds=60)
    assert sorted(bench.ended()) == sorted(running)
    assert bench.pending() == 0
    with pytest.raises(RuntimeError):
        consumer.check_alive()
    bench.consumer(effects)
    bench.wait_ended(jobs)


def test_a_stop_hands_back_what_does_not_finish(bench: Bench) -> None:
    effects = Effects(Gate())
    consumer = bench.consumer(effects, redis_visibility_timeout=3_600)
    jobs = bench.add(2)
    hold_all(bench, effects, 2)
    consumer.ask_to_stop(grace_seconds=4)
    assert consumer.join(timeout_seconds=60), "the jobs themselves would go on for ever"
    seen: list[tuple[int, int]] = []
    other = Effects(lambda job: seen.append((job.entry.attempt, job.delivery)))
    bench.consumer(other, consumer_name="two", redis_visibility_timeout=3_600)
    bench.wait_ended(jobs)
    assert seen == [(0, 1), (0, 1)], "neither an attempt nor a crash"
    assert effects.done == []


def test_a_stop_does_not_wait_for_a_handler_that_hangs(bench: Bench) -> None:
    hang = threading.Event()

    def work(job: LeasedJob) -> None:
        hang.wait(200)

    effects = Effects(work)
    consumer = bench.consumer(effects, redis_visibility_timeout=3_600)
    jobs = bench.add()
    hold_all(bench, effects, 1)
    try:
        consumer.ask_to_stop(grace_seconds=4)
        assert consumer.join(timeout_seconds=60)
        bench.consumer(Effects(), consumer_name="two", redis_visibility_timeout=3_600)
        bench.wait_ended(jobs)
    finally:
        hang.set()


def test_a_restarted_process_begins_with_its_own(bench: Bench) -> None:
    """Without waiting for the visibility timeout: nobody else has its name."""
    jobs = bench.add(3)
    bench.redis.xgroup_create(bench.stream, "workers", id="0")
    bench.redis.xreadgroup("workers", "one", {bench.stream: ">"}, count=2)
    effects = Effects()
    bench.consumer(effects, redis_visibility_timeout=3_600, max_concurrency=1)
    bench.wait_ended(jobs)
    assert effects.done == jobs
    assert [r.delivery for r in bench.reports(CctvState.COMPLETED)] == [2, 2, 1]


def test_dead_consumers_are_removed_once_empty(bench: Bench) -> None:
    bench.redis.xgroup_create(bench.stream, "workers", id="0", mkstream=True)
    bench.redis.xgroup_createconsumer(bench.stream, "workers", "dead")
    bench.consumer(Effects(), redis_consumer_expiry_seconds=0.5)
    wait_until(
        lambda: {each["name"] for each in bench.redis.xinfo_consumers(bench.stream, "workers")},
        lambda names: "dead" not in names,
    )
    bench.wait_ended(bench.add())


def test_the_stream_is_trimmed_of_what_is_done(bench: Bench) -> None:
    bench.consumer(Effects(), redis_trim_seconds=0.2)
    bench.wait_ended(bench.add(20))
    wait_until(lambda: bench.redis.xlen(bench.stream), lambda length: length == 1)


def test_after_a_flush_the_group_is_made_again(bench: Bench) -> None:
    effects = Effects()
    bench.consumer(effects)
    bench.wait_ended(bench.add(2))
    bench.redis.flushall()
    bench.wait_ended(bench.add(3))


class Memory:
    """A memory probe in a test's hands."""

    name = "test"

    def __init__(self, free: int) -> None:
        self.free = free

    def read(self) -> MemoryReading:
        return MemoryReading(free=self.free << 20, total=16_384 << 20, own=0)

    def reset_peak(self) -> None:
        pass

    def peak(self) -> int | None:
        return None


def test_without_memory_nothing_is_read(bench: Bench) -> None:
    memory = Memory(1_100)
    guard = MemoryGuard(memory, AdmissionSettings(gpu_memory_reserve_mib=500))
    effects = Effects()
    consumer = bench.consumer(effects, guard=guard)
    jobs = bench.add(3)
    wait_until(lambda: consumer.snapshot().admission.holding)
    assert bench.pending() == 0
    memory.free = 1_700
    bench.wait_ended(jobs)
    assert effects.most_at_once == 1, "there was room for one at a time"
    assert not consumer.snapshot().admission.holding


def test_the_snapshot_tells_what_each_slot_does(bench: Bench) -> None:
    gate = Gate()

    def work(job: LeasedJob) -> None:
        job.progress(Stage.BACKGROUND, 40, "Background")
        gate(job)

    effects = Effects(work)
    consumer = bench.consumer(effects)
    [job] = bench.add(attempt="1")
    wait_until(lambda: [slot.stage for slot in consumer.snapshot().slots] == [Stage.BACKGROUND])
    snapshot = consumer.snapshot()
    [slot] = snapshot.slots
    assert (slot.slot, slot.job_id, slot.cctv_id, slot.percent) == (0, job, "cam-1", 40)
    assert (slot.attempt, slot.delivery, slot.stopping) == (1, 1, False)
    assert 0 < slot.lease_seconds_left <= 15
    assert (snapshot.consumer, snapshot.concurrency, snapshot.busy) == ("one", 2, 1)
    assert snapshot.group is not None
    assert (snapshot.group.pending, snapshot.group.lag) == (1, 0)
    assert snapshot.group.last_delivered_id == slot.entry_id
    assert snapshot.group.consumers == {"one": 1}
    assert [(p.entry_id, p.consumer, p.deliveries) for p in snapshot.pending] == [
        (slot.entry_id, "one", 1)
    ]
    consumer.check_alive()
    wait_until(lambda: consumer.json_counters()["pending"] == 1)
    consumer.check_working()
    assert REGISTRY.get_sample_value("headrace_preprocessor_slots_busy") == 1
    assert consumer.json_counters() == {
        "processed": 0,
        "failed": 0,
        "retried": 0,
        "dlq": 0,
        "pending": 1,
        "concurrency_current": 2,
    }
    snapshot.model_dump_json()
    gate.let_go()
    bench.wait_ended([job])
    wait_until(lambda: consumer.snapshot().busy == 0)
