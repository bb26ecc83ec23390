"""What others want: jobs cancelled, the stream paused, entries taken away, remains removed."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from stream_harness import Bench, Effects, Gate
from test_stream_scripts import Hand

from headrace_common.contracts.cctv import CctvState, SettledJob
from headrace_common.errors import UnavailableError
from headrace_gpu_preprocessor.artifacts.errors import SetConflictError
from headrace_gpu_preprocessor.control import status_word
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_gpu_preprocessor.stream.deliveries import Refusal
from headrace_gpu_preprocessor.stream.store import StreamStore
from headrace_local.waiting import wait_until

CANCELLED = CctvState.CANCELLED


class Removals:
    """Removes nothing, and notes what it should."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.jobs: list[SettledJob] = []

    def __call__(self, job: SettledJob, check: Callable[[], None]) -> None:
        check()
        self.jobs.append(job)
        if self.error is not None:
            raise self.error


def test_a_cancelled_job_stops_and_leaves_nothing(bench: Bench) -> None:
    removals, hold = Removals(), Gate()
    effects = Effects(hold)
    bench.consumer(effects, remover=removals)
    jobs = bench.add(2)
    wait_until(lambda: len(effects.begun) == 2)
    bench.cancel(jobs[0])
    wait_until(lambda: bench.ended(CANCELLED) == jobs[:1])
    assert [(job.job_id, job.run, job.folder) for job in removals.jobs] == [(jobs[0], 1, None)]
    hold.let_go()
    bench.wait_ended(jobs[1:])
    assert effects.done == jobs[1:]
    assert (bench.letters(), bench.delayed()) == ([], [])


def test_a_job_that_is_cancelled_while_it_waits_is_not_begun(bench: Bench) -> None:
    removals, effects = Removals(), Effects()
    first, second = bench.add(2)
    bench.cancel(first)
    bench.consumer(effects, remover=removals)
    bench.wait_ended([first], CANCELLED)
    bench.wait_ended([second])
    assert effects.begun == [second]
    assert [job.job_id for job in removals.jobs] == [first], "earlier attempts may have stored some"


def test_a_retry_of_a_cancelled_job_vanishes(bench: Bench) -> None:
    def fail(job: LeasedJob) -> None:
        bench.cancel(job.job_id)
        raise SetConflictError("later")

    effects = Effects(fail)
    bench.consumer(effects, remover=Removals())
    [job] = bench.add()
    bench.wait_ended([job], CANCELLED)
    assert (effects.begun, bench.delayed(), bench.letters()) == ([job], [], [])


def test_what_cannot_be_removed_now_is_left_to_the_janitor(bench: Bench) -> None:
    bench.consumer(Effects(), remover=Removals(UnavailableError("no")))
    [job] = bench.add()
    bench.cancel(job)
    bench.wait_ended([job], CANCELLED)


def test_a_paused_stream_goes_on_where_it_stopped(bench: Bench) -> None:
    hold = Gate()
    effects = Effects(hold)
    consumer = bench.consumer(effects)
    running = bench.add()
    wait_until(lambda: effects.begun == running)
    bench.redis.set(f"{bench.stream}:paused", "cameras are serviced")
    snapshot = wait_until(consumer.snapshot, lambda seen: seen.paused_by_stream is not None)
    assert (snapshot.paused_by_stream, status_word(snapshot)) == ("cameras are serviced", "paused")
    waiting = bench.add(3)
    hold.let_go()
    bench.wait_ended(running)
    consumer.pause()
    consumer.resume()  # of this process alone
    assert effects.begun == running
    bench.redis.delete(f"{bench.stream}:paused")
    wait_until(lambda: set(waiting) <= set(bench.ended()))


def test_while_the_stream_is_paused_nothing_is_handed_out(bench: Bench) -> None:
    hand = Hand(bench)
    hand.do(StreamStore.ensure_group)
    bench.add(2)
    first, second = hand.read()
    fields = {"cctvId": "cam"}
    hand.do(lambda store: store.retry(second, fields, delay_seconds=0, report={}))
    bench.redis.set(f"{bench.stream}:paused", "")
    assert hand.do(lambda store: store.begin(first, "job")) is Refusal.PAUSED
    assert hand.claim().deliveries == []
    assert hand.do(StreamStore.promote).moved == 0
    assert hand.do(lambda store: store.look([])).paused == ""
    bench.redis.delete(f"{bench.stream}:paused")
    assert len(hand.claim().deliveries) == 1
    assert hand.do(StreamStore.promote).moved == 1


def test_what_a_process_had_before_it_was_paused_is_its_first_after(bench: Bench) -> None:
    hand = Hand(bench)
    hand.do(StreamStore.ensure_group)
    jobs = bench.add()
    assert len(hand.read()) == 1
    bench.redis.set(f"{bench.stream}:paused", "why")
    consumer = bench.consumer(Effects(), consumer_name=hand.name, redis_visibility_timeout=600)
    wait_until(lambda: consumer.snapshot().paused_by_stream)
    bench.redis.delete(f"{bench.stream}:paused")
    bench.wait_ended(jobs)


def test_a_run_is_no_duplicate_of_an_earlier_one(bench: Bench) -> None:
    hand = Hand(bench)
    hand.do(StreamStore.ensure_group)
    bench.add(3)
    first, again, twin = hand.read()
    assert hand.do(lambda store: store.begin(first, "job")) is None
    assert hand.do(lambda store: store.begin(again, "job", run=2)) is None
    assert hand.do(lambda store: store.begin(twin, "job", run=2)) is Refusal.DUPLICATE


def test_the_cancel_of_a_run_says_nothing_of_the_next(bench: Bench) -> None:
    """It may come late: Redis was away, or the job was begun anew at once."""
    hand = Hand(bench)
    hand.do(StreamStore.ensure_group)
    bench.add(2)
    first, again = hand.read()
    bench.cancel("job")
    assert hand.do(lambda store: store.begin(first, "job")) is Refusal.CANCELLED
    assert hand.do(lambda store: store.begin(again, "job", run=2)) is None
    seen = hand.do(lambda store: store.look([(first, "job", 1), (again, "job", 2)]))
    assert seen.cancelled == {first.entry_id}


def test_long_cancelled_jobs_are_forgotten(bench: Bench) -> None:
    hand = Hand(bench)
    bench.cancel("new")
    bench.redis.hset(f"{bench.stream}:cancelled", mapping={"old": 1, "unreadable": "x"})
    assert hand.do(StreamStore.forget_cancelled) == 2
    assert list(bench.redis.hgetall(f"{bench.stream}:cancelled")) == ["new"]


@pytest.mark.parametrize("lost", [0, 1])
def test_jobs_whose_entries_a_flush_took_stop_soon(bench: Bench, lost: int) -> None:
    """Else they would be worked on twice, for as long as a lease lasts."""
    stopped = threading.Event()
    hold = Gate()

    def work(job: LeasedJob) -> None:
        try:
            hold(job)
        finally:
            stopped.set()

    effects = Effects(work)
    bench.consumer(effects, redis_visibility_timeout=600)
    jobs = bench.add(1)
    wait_until(lambda: effects.begun == jobs)
    bench.redis.delete(*[bench.stream, f"{bench.stream}:running"][: 2 - lost])
    assert stopped.wait(60)
    suspects = wait_until(lambda: bench.redis.smembers(f"{bench.stream}:suspects"))
    assert suspects == set(jobs), "something of it may have been stored"
    hold.let_go()
    bench.add(jobId=jobs[0])
    bench.wait_ended(jobs)
    assert effects.done == jobs


def settle_job(bench: Bench, name: str, *, purged: bool = False) -> str:
    job = SettledJob(job_id=name, cctv_id="cam", run=1, folder=None, purged=purged)
    member = job.model_dump_json()
    bench.redis.zadd(f"{bench.stream}:settled", {member: 0})
    return member


def test_remains_of_jobs_that_have_ended_are_removed(bench: Bench) -> None:
    removals = Removals()
    settle_job(bench, "a")
    bench.redis.zadd(f"{bench.stream}:settled", {"no job": 0})
    bench.consumer(Effects(), remover=removals)
    wait_until(lambda: bench.redis.zcard(f"{bench.stream}:settled") == 0)
    assert [job.job_id for job in removals.jobs] == ["a"]


def test_it_is_said_of_a_purged_job_that_nothing_is_left(bench: Bench) -> None:
    removals = Removals()
    settle_job(bench, "a")
    settle_job(bench, "b", purged=True)
    bench.consumer(Effects(), remover=removals)
    wait_until(lambda: bench.redis.zcard(f"{bench.stream}:settled") == 0)
    assert {job.job_id for job in removals.jobs} == {"a", "b"}
    assert bench.redis.zrange(f"{bench.stream}:purged", 0, -1) == ["b"]


def test_remains_that_could_not_be_removed_are_tried_again(bench: Bench) -> None:
    removals = Removals(UnavailableError("away"))
    member = settle_job(bench, "a")
    bench.consumer(Effects(), remover=removals)
    wait_until(lambda: removals.jobs)
    due: Any = bench.redis.zscore(f"{bench.stream}:settled", member)
    assert due > 0, "later, by whoever comes first"
