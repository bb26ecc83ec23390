"""Camera jobs that Redis forgot are put on the stream again, and no others."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from operator import eq
from typing import Any

import pytest
from camera_harness import HLS, Streams, entry, in_process, recovering, report
from results_harness import Bench
from sqlalchemy import func, update

from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.db import Job
from headrace_common.jobs import NewJob
from headrace_common.jobs.cameras import camera_entry, camera_input, entry_order
from headrace_common.shifts import Shifts
from headrace_local.waiting import wait_until
from headrace_results.cameras.recovery import Action, LostJob, LostLimits, plan_recovery
from headrace_results.cameras.sweep import CameraSweep
from headrace_results.cameras.whereabouts import Whereabouts

LIMITS = LostLimits(
    lost_after=timedelta(minutes=30), unqueued_after=timedelta(seconds=30), max_requeues=3
)


@pytest.mark.parametrize(
    ("status", "requeues", "readable", "action"),
    [
        (JobStatus.QUEUED, 0, True, Action.REQUEUE),
        (JobStatus.PROCESSING, 2, True, Action.REQUEUE),
        (JobStatus.PROCESSING, 3, True, Action.FAIL),
        (JobStatus.QUEUED, 0, False, Action.FAIL),
        (JobStatus.QUEUING, 99, True, Action.REQUEUE),
    ],
)
def test_what_is_done_about_a_lost_job(
    status: JobStatus,
    requeues: int,
    readable: bool,  # noqa: FBT001
    action: Action,
) -> None:
    assert plan_recovery(LostJob(status, requeues, readable=readable), LIMITS).action is action


def test_a_job_that_never_got_onto_the_stream_is_looked_for_sooner() -> None:
    assert LIMITS.silence(JobStatus.QUEUING) == timedelta(seconds=30)
    assert LIMITS.silence(JobStatus.QUEUED) == LIMITS.silence(JobStatus.PROCESSING)


def test_an_entry_survives_its_way_through_a_row() -> None:
    fields = entry(extra="kept", jobId="job-1", traceparent="00-1-2-01")
    parsed = PreprocessEntry.parse(fields)
    trace = {"traceparent": "00-1-3-01"}
    again = camera_entry("job-1", camera_input(parsed), {"attempt": 2}, trace)
    assert again.fields() == fields | trace | {"attempt": "2"}


def test_entries_are_ordered_as_numbers() -> None:
    ids = ["9-1", "10-0", "10-2", "10-10", "100-0"]
    assert sorted({*ids}, key=entry_order) == ids
    assert entry_order(None) == entry_order("nonsense") == entry_order("1") < entry_order("0-1")


@pytest.fixture
def own(bench: Bench) -> Streams:
    return Streams(bench.redis)


@pytest.fixture
def sweeping(bench: Bench, own: Streams, service_env: dict[str, str]) -> Iterator[None]:
    """Two replicas that take a job of half an hour's silence for lost."""
    with bench.database.begin() as session:
        # What other tests left in the database is heard of just now, and so not lost.
        session.execute(update(Job).values(updated_at=func.clock_timestamp()))
    settings = {
        "REDIS_STREAM": own.name,
        "DRAMATIQ_NAMESPACE": f"sweep-{uuid.uuid4().hex[:8]}",
        "CCTV_MAX_REQUEUES": "1",
    }
    with (
        in_process(service_env, **settings) as first,
        in_process(service_env, **settings) as second,
        recovering(first, second),
    ):
        yield


def make_job(bench: Bench, status: JobStatus = JobStatus.QUEUED, **fields: str) -> str:
    """Make a camera job whose entry is nowhere."""
    parsed = PreprocessEntry.parse(entry(**fields))
    new = NewJob(
        id=parsed.job_id,
        kind=JobKind.CCTV_PREPROCESS,
        lane=Lane.NORMAL,
        message="",
        input=camera_input(parsed),
        status=JobStatus.QUEUING,
    )
    bench.store.create(new)
    for step in (JobStatus.QUEUED, JobStatus.PROCESSING):
        if status in (step, JobStatus.PROCESSING):
            bench.change(new.id, step)
    return new.id


def fall_silent(bench: Bench, *job_ids: str, hours: float = 1) -> None:
    """Let it be long since anything was heard of jobs."""
    ago = Job.updated_at - timedelta(hours=hours)
    with bench.database.begin() as session:
        session.execute(update(Job).where(Job.id.in_(job_ids)).values(updated_at=ago))


@pytest.mark.stack
@pytest.mark.usefixtures("sweeping")
def test_a_flushed_redis_loses_no_job(bench: Bench, own: Streams) -> None:
    fields = [entry() for _ in range(20)]
    jobs = [PreprocessEntry.parse(each).job_id for each in fields]
    for each in fields:
        own.add(each)
    wait_until(lambda: len(bench_rows(bench, jobs)) == 20)
    [first] = own.work()
    own.report(fields[0], first, "processing", progress=60)
    wait_until(lambda: bench.view(jobs[0]).status is JobStatus.PROCESSING)
    for key in (own.name, own.reports):
        bench.redis.delete(key)  # as after FLUSHALL: the groups are gone too
    fall_silent(bench, *jobs)

    wait_until(lambda: set(jobs) <= set(own.job_ids()))
    queued = [(entry_id, each) for entry_id, each in own.entries() if each["jobId"] in jobs]
    assert len(queued) == len(jobs), "each once, whichever replica sweeps"
    for entry_id, each in queued:
        job_id = each["jobId"]
        # The entry is there before the commit.
        wait_until(partial(message_of, bench, job_id), partial(eq, entry_id))
        assert each["hls"] == HLS
        assert each["cctvId"] == fields[jobs.index(job_id)]["cctvId"]
    assert bench.view(jobs[0]).status is JobStatus.PROCESSING, "a status never moves back"
    assert bench.events(jobs[1])[-1].message == "Put on the stream again: its entry was lost"
    own.work(20)
    for each in fields:
        second = {found["jobId"]: entry_id for entry_id, found in own.entries()}
        own.report(
            each | {"jobId": PreprocessEntry.parse(each).job_id},
            second[PreprocessEntry.parse(each).job_id],
            "failed",
            error={"code": "x", "message": "x"},
        )
    wait_until(lambda: all(bench.view(job_id).status is JobStatus.FAILED for job_id in jobs))


def message_of(bench: Bench, job_id: str) -> str | None:
    return bench.view(job_id).queue_message_id


def bench_rows(bench: Bench, jobs: list[str]) -> list[str]:
    with bench.database.begin() as session:
        return [job_id for job_id in jobs if session.get(Job, job_id) is not None]


@pytest.mark.stack
@pytest.mark.usefixtures("sweeping")
def test_a_job_that_is_lost_again_and_again_fails(bench: Bench, own: Streams) -> None:
    job_id = make_job(bench, attempt="2")
    fall_silent(bench, job_id)
    wait_until(lambda: own.job_ids().count(job_id) == 1)
    assert "2" in [each["attempt"] for _, each in own.entries() if each["jobId"] == job_id]
    bench.redis.delete(own.name)
    fall_silent(bench, job_id)
    wait_until(lambda: bench.view(job_id).status is JobStatus.FAILED)
    job = bench.view(job_id)
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("entry_lost", "its entry was lost 2 times")
    assert job_id not in own.job_ids()


@pytest.mark.stack
@pytest.mark.usefixtures("sweeping")
def test_what_was_accepted_without_redis_is_put_on_the_stream(bench: Bench, own: Streams) -> None:
    job_id = make_job(bench, JobStatus.QUEUING)
    fall_silent(bench, job_id, hours=1 / 60)
    wait_until(lambda: own.job_ids().count(job_id) == 1)
    wait_until(lambda: bench.view(job_id).status is JobStatus.QUEUED)
    assert "requeues" not in bench.view(job_id).metadata


@pytest.mark.stack
@pytest.mark.usefixtures("sweeping")
def test_a_job_whose_entry_cannot_be_made_anew_fails(bench: Bench, own: Streams) -> None:
    job_id = f"job-{uuid.uuid4()}"
    new = NewJob(
        id=job_id,
        kind=JobKind.CCTV_PREPROCESS,
        lane=Lane.NORMAL,
        message="",
        status=JobStatus.QUEUED,
        input={"entry": {"cctvId": "x"}},
    )
    bench.store.create(new)
    fall_silent(bench, job_id)
    wait_until(lambda: bench.view(job_id).status is JobStatus.FAILED)
    assert job_id not in own.job_ids()


@pytest.mark.stack
def test_what_redis_holds_is_not_lost(bench: Bench, own: Streams) -> None:
    """Waiting, in work, put aside, put aside under another entry, or told of: nothing is lost."""
    names = ("working", "done", "delayed", "again", "reported", "waiting")
    fields = {name: entry(name) for name in names}
    jobs = {name: PreprocessEntry.parse(each).job_id for name, each in fields.items()}
    own.make_workers()
    ids = {name: own.add(fields[name]) for name in names[:5]}
    own.work(5)
    for name in ("done", "reported"):
        own.acknowledge(ids[name])
    own.client.xadd(own.reports, dict(report(fields["reported"], ids["reported"], "completed")))
    own.delay(ids["delayed"], fields["delayed"] | {"jobId": jobs["delayed"], "attempt": "1"})
    own.acknowledge(ids["again"])
    own.add(fields["again"] | {"jobId": jobs["again"], "attempt": "1"})
    ids["waiting"] = own.add(fields["waiting"])
    jobs["never"] = "job-never"

    where = Whereabouts(own.client, stream=own.name, workers="workers")
    known = {job_id: ids.get(name) for name, job_id in jobs.items()}
    held = where.held(known)
    assert held == {jobs[name] for name in names} - {jobs["done"]}
    assert where.held(dict.fromkeys(known)) == held, "the same by looking through everything"
    assert where.held({}) == set()
    assert where.done([*ids.values(), "1-1"]) == {
        *(ids[name] for name in ("done", "reported", "delayed", "again")),
        "1-1",
    }


@pytest.mark.stack
def test_nobody_looks_further_than_needed(own: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    own.make_workers()
    with own.client.pipeline(transaction=False) as pipeline:
        for number in range(10_000):
            pipeline.xadd(own.name, dict(entry(jobId=f"job-{number}")))
        pipeline.execute()
    pages: list[str] = []
    page = own.client.xrange

    def counted(*args: Any, **options: Any) -> Any:
        pages.append(args[0])
        return page(*args, **options)

    monkeypatch.setattr(own.client, "xrange", counted)
    where = Whereabouts(own.client, stream=own.name, workers="workers")
    assert where.held({}) == set()
    assert pages == []
    assert where.held({"job-1500": None, "job-7": None}) == {"job-1500", "job-7"}
    assert len(pages) == 2
    assert where.held({"job-never": None}) == set()
    assert pages.count(own.name) == 2 + 11, "what is nowhere is looked for everywhere"


@pytest.mark.stack
def test_without_stream_and_group_nothing_is_held_and_nothing_done(own: Streams) -> None:
    where = Whereabouts(own.client, stream=own.name, workers="workers")
    assert where.held({"job-1": "1-1", "job-2": None}) == set()
    assert where.done(["1-1"]) == set()
    added = own.add(entry(jobId="job-1"))
    assert where.held({"job-1": added, "job-2": None}) == {"job-1"}, "no worker was there yet"
    assert where.done([added]) == set()


@pytest.mark.stack
@pytest.mark.usefixtures("sweeping")
def test_silence_of_a_job_that_waits_is_no_loss(bench: Bench, own: Streams) -> None:
    waiting = entry()
    entry_id = own.add(waiting)
    job_id = PreprocessEntry.parse(waiting).job_id
    wait_until(lambda: bench_rows(bench, [job_id]))
    lost = make_job(bench)
    fall_silent(bench, job_id, lost)
    wait_until(lambda: lost in own.job_ids())
    assert own.job_ids().count(job_id) == 1
    assert bench.view(job_id).queue_message_id == entry_id
    assert len(bench.events(job_id)) == 1


@pytest.mark.stack
def test_lost_jobs_are_found_although_the_first_look_took_the_whole_shift(
    bench: Bench, own: Streams
) -> None:
    lost = make_job(bench)
    fall_silent(bench, lost)
    whereabouts = Whereabouts(own.client, stream=own.name, workers="workers")
    sweep = CameraSweep(
        own.client, bench.database, bench.store, whereabouts, stream=own.name, limits=LIMITS
    )
    no_time = Shifts(seconds=0).begin()
    wait_until(lambda: sweep.run(no_time) and own.job_ids(), lambda there: lost in there)
