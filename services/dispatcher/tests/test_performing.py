"""Firings that begin jobs: once each, whatever comes twice or late."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import redis
from firing_bench import FiringBench
from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError

from headrace_common.contracts.cctv import CANCELLED_SUFFIX
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.schedules import (
    PREPROCESS,
    REANALYSE,
    FiringState,
    OverlapPolicy,
)
from headrace_common.db import Camera, Firing, Job, Schedule
from headrace_common.jobs import Change
from headrace_common.jobs.cameras import camera_entry
from headrace_common.telemetry.trace import inside_trace
from headrace_dispatcher.scheduling import performing
from headrace_dispatcher.scheduling.performing import job_id_of

pytestmark = pytest.mark.stack


@pytest.fixture
def bench(firing_bench: FiringBench) -> FiringBench:
    return firing_bench


_HOUR = timedelta(hours=1)
_TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


def test_a_recording_is_analysed_anew(bench: FiringBench) -> None:
    job_id = bench.job()
    firing = bench.reanalyse(bench.schedule("nightly"), job_id)
    assert (firing.state, firing.job_id, firing.job_run) == ("running", job_id, 2)
    job = bench.load(job_id)
    assert (job.status, job.run) == ("queued", 2)
    assert job.message == "Analysed anew by schedule 'nightly': run 2"
    assert job.meta == {
        "schedule": "nightly",
        "firing_id": firing.id,
        "analysis_progress": None,
    }
    assert bench.lane_messages(Lane.LOW) == 1


def test_a_registered_camera_is_looked_at(bench: FiringBench) -> None:
    region = [[[0.1, 0.2], [0.9, 0.2], [0.5, 0.9]]]
    name = bench.camera(region=region)
    schedule_id = bench.schedule("every-ten-minutes")
    firing_id = bench.fire(PREPROCESS, schedule_id, camera=name)
    with inside_trace({"traceparent": _TRACEPARENT}):  # as its message carries it
        bench.performing.preprocess(firing_id)

    firing = bench.firing(firing_id)
    assert (firing.state, firing.job_id, firing.job_run) == ("running", job_id_of(firing), 1)
    job = bench.load(firing.job_id)
    assert (job.kind, job.status) == (JobKind.CCTV_PREPROCESS, JobStatus.QUEUED)
    assert job.created_by == "schedule:every-ten-minutes"
    assert job.meta == {"schedule": "every-ten-minutes", "firing_id": firing_id}
    assert job.trace["traceparent"].split("-")[1] == _TRACEPARENT.split("-")[1]
    [entry] = bench.entries()
    assert (entry.job_id, entry.cctv_id, entry.sec) == (job.id, name, 12.5)
    assert entry.hls == "https://cameras.example/gate-1.m3u8"
    assert entry.trace["traceparent"].split("-")[1] == _TRACEPARENT.split("-")[1]
    assert camera_entry(job.id, job.input, job.meta, entry.trace) == entry, "a sweep makes the same"
    assert entry.model_dump(mode="json")["road_region"] == region


def test_a_firing_that_is_recorded_anew_begins_the_same_job(bench: FiringBench) -> None:
    schedule_id, name = bench.schedule(), bench.camera()
    first = bench.look(schedule_id, name)
    # Restored from a backup of before it; another has its number by now.
    with bench.database.begin() as session:
        session.execute(delete(Job).where(Job.id == first.job_id))
        session.execute(
            update(Firing).where(Firing.id == first.id).values(fire_at=Firing.fire_at - _HOUR)
        )
    again = bench.fire(PREPROCESS, schedule_id, camera=name)
    with bench.database.begin() as session:
        session.execute(update(Firing).where(Firing.id == again).values(fire_at=first.fire_at))
    bench.performing.preprocess(again)
    assert bench.firing(again).job_id == first.job_id
    assert job_id_of(bench.firing(first.id)) != first.job_id


def test_a_schedule_may_look_for_longer_than_the_camera_says(bench: FiringBench) -> None:
    bench.look(bench.schedule(), bench.camera(), seconds=30)
    assert [entry.sec for entry in bench.entries()] == [30]


def test_messages_that_come_twice_late_or_at_once_begin_one_run(bench: FiringBench) -> None:
    job_id, schedule_id = bench.job(), bench.schedule()
    firing_id, barrier = bench.fire(REANALYSE, schedule_id, job_id=job_id), threading.Barrier(4)

    def perform() -> None:
        barrier.wait()
        bench.performing.reanalyse(firing_id)

    threads = [threading.Thread(target=perform) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.load(job_id).run == 2

    # Sent again, and taken up after the job and the firing have ended.
    bench.store.apply([Change(job_id=job_id, to=JobStatus.COMPLETED, message="")])
    bench.performing.reanalyse(firing_id, retried=True)
    bench.firings.finish(firing_id, state=FiringState.SUCCEEDED)
    bench.performing.reanalyse(firing_id)
    assert bench.load(job_id).run == 2

    with bench.database.begin() as session:
        session.execute(delete(Schedule).where(Schedule.id == schedule_id))
    bench.performing.reanalyse(firing_id)
    assert bench.load(job_id).run == 2


def test_what_cannot_be_begun_ends_with_a_reason(bench: FiringBench) -> None:
    schedule_id = bench.schedule()
    uploading = bench.job(JobStatus.UPLOADING)
    discarded = bench.job(JobStatus.FAILED)
    camera_job = bench.job(kind=JobKind.CCTV_PREPROCESS)

    def why(firing: Firing) -> str | None:
        assert (firing.state, firing.job_id) == ("failed", None)
        assert firing.finished_at is not None
        return firing.reason

    assert why(bench.reanalyse(schedule_id, "job-0")) == "there is no job 'job-0' any more"
    assert why(bench.reanalyse(schedule_id, uploading)) == (
        f"job {uploading!r} is still being uploaded"
    )
    assert f"nothing is kept of job {discarded!r}" in str(
        why(bench.reanalyse(schedule_id, discarded))
    )
    assert why(bench.reanalyse(schedule_id, camera_job)) == (
        f"job {camera_job!r} is no audio job but cctv_preprocess"
    )
    assert why(bench.look(schedule_id, "gone")) == "no camera 'gone' is registered"
    # Of a contract whose parameters have changed since.
    assert why(bench.look(schedule_id, "a/b")) == (
        "camera: Value error, must have neither a slash nor control characters"
    )
    broken = bench.camera("broken", hls="rtsp://cameras.example/1")
    assert why(bench.look(schedule_id, broken)) == (
        "hls: Value error, must be an http:// or https:// URL"
    )
    assert bench.load(camera_job).run == 1
    assert bench.entries() == []


def test_a_mistake_of_ours_ends_its_firing(
    bench: FiringBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("nobody thought of that")

    monkeypatch.setattr(performing, "entry_for_camera", fail)
    firing = bench.look(bench.schedule(), bench.camera())
    assert (firing.state, firing.reason) == ("failed", "TypeError: nobody thought of that")
    assert firing.job_id is None


def test_while_the_database_is_away_a_firing_is_left_to_the_next_try(
    bench: FiringBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, RuntimeError("gone"))

    firing_id = bench.fire(PREPROCESS, bench.schedule(), camera=bench.camera())
    with monkeypatch.context() as patch:
        patch.setattr(performing, "entry_for_camera", away)
        with pytest.raises(OperationalError):
            bench.performing.preprocess(firing_id)
    assert bench.firing(firing_id).state == "sent"
    bench.performing.preprocess(firing_id)
    assert bench.firing(firing_id).state == "running"


def test_the_id_of_a_look_may_be_taken(bench: FiringBench) -> None:
    firing_id = bench.fire(PREPROCESS, camera=bench.camera())
    bench.job(kind=JobKind.CCTV_PREPROCESS, job_id=job_id_of(bench.firing(firing_id)))
    bench.performing.preprocess(firing_id)
    assert bench.firing(firing_id).state == "failed"


def test_while_redis_is_away_a_look_waits_in_its_row(
    bench: FiringBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(bench.broker.client, "xadd", away)
        firing = bench.look(bench.schedule(), bench.camera())
    assert firing.state == "running"
    assert bench.load(firing.job_id).status == "queuing", "what the results service looks for"


def test_cancel_ends_what_the_earlier_firings_of_the_schedule_began(bench: FiringBench) -> None:
    name, schedule_id = bench.camera(), bench.schedule("gate")
    running = bench.look(schedule_id, name)
    ended = bench.look(schedule_id, name)
    bench.store.apply([Change(job_id=str(ended.job_id), to=JobStatus.COMPLETED, message="")])
    waiting = bench.fire(PREPROCESS, schedule_id, camera=name, state=FiringState.PENDING)
    sent = bench.fire(PREPROCESS, schedule_id, camera=name)
    of_another = bench.look(bench.schedule("another"), name)

    last = bench.look(schedule_id, name, overlap=OverlapPolicy.CANCEL)

    for firing_id in (running.id, ended.id, waiting, sent):
        firing = bench.firing(firing_id)
        assert (firing.state, firing.reason) == ("cancelled", "overlap")
        assert firing.finished_at is not None
    job = bench.load(running.job_id)
    assert (job.status, job.message) == ("cancelled", "Cancelled: schedule 'gate' fired again")
    assert bench.load(ended.job_id).status == "completed", "it had ended already"
    told: Any = bench.broker.client.hkeys(f"{bench.stream}{CANCELLED_SUFFIX}")
    assert told == [str(running.job_id).encode()]
    assert bench.firing(of_another.id).state == "running"
    assert (last.state, bench.load(last.job_id).status) == ("running", "queued")
    bench.performing.preprocess(sent)
    assert bench.firing(sent).state == "cancelled", "its message comes late"


def test_cancel_leaves_what_runs_where_nothing_can_be_begun(bench: FiringBench) -> None:
    name, schedule_id = bench.camera(), bench.schedule()
    running = bench.look(schedule_id, name)
    with bench.database.begin() as session:
        session.execute(delete(Camera))
    assert bench.look(schedule_id, name, overlap=OverlapPolicy.CANCEL).state == "failed"
    assert bench.firing(running.id).state == "running"
    assert bench.load(running.job_id).status == "queued"


def test_a_job_that_is_open_is_not_begun_anew(bench: FiringBench) -> None:
    schedule_id = bench.schedule()
    open_job = bench.job(JobStatus.QUEUING, JobStatus.QUEUED)
    for overlap in OverlapPolicy:
        firing = bench.reanalyse(schedule_id, open_job, overlap=overlap)
        assert (firing.state, firing.reason) == ("skipped", "overlap: the job is queued")
    assert bench.load(open_job).run == 1


def test_cancel_drops_the_run_that_an_earlier_firing_began(bench: FiringBench) -> None:
    job_id, schedule_id = bench.job(), bench.schedule()
    first = bench.reanalyse(schedule_id, job_id)
    allowed = bench.reanalyse(schedule_id, job_id, overlap=OverlapPolicy.ALLOW)
    assert allowed.state == "skipped", "a job has one run at a time"
    last = bench.reanalyse(schedule_id, job_id, overlap=OverlapPolicy.CANCEL)
    assert (last.state, last.job_run) == ("running", 3)
    assert bench.firing(first.id).state == "cancelled"
    job = bench.load(job_id)
    assert (job.status, job.run) == ("queued", 3)


def test_of_two_that_cancel_each_other_at_once_the_later_stays(bench: FiringBench) -> None:
    name, schedule_id = bench.camera(), bench.schedule()
    ids = [
        bench.fire(PREPROCESS, schedule_id, camera=name, overlap=OverlapPolicy.CANCEL)
        for _ in range(4)
    ]
    barrier = threading.Barrier(len(ids))

    def perform(firing_id: int) -> None:
        barrier.wait()
        bench.performing.preprocess(firing_id)

    threads = [threading.Thread(target=perform, args=(firing_id,)) for firing_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bench.firing(firing_id).state for firing_id in ids] == ["cancelled"] * 3 + ["running"]
    open_jobs = [
        firing.job_id
        for firing in map(bench.firing, ids)
        if firing.job_id and bench.load(firing.job_id).finished_at is None
    ]
    assert open_jobs == [bench.firing(ids[-1]).job_id]
