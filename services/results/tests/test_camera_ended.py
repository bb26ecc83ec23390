"""Redis is told which camera jobs were cancelled, and what is to be kept of those that ended."""

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from camera_harness import Streams, entry, report, result
from results_harness import Bench
from sqlalchemy import update

from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.contracts.cctv import (
    CctvReport,
    CctvState,
    PreprocessEntry,
    run_of_folder,
    set_timestamp,
)
from headrace_common.db import Job
from headrace_common.jobs import Change, NewJob
from headrace_common.jobs.camera_queue import add_entry
from headrace_common.jobs.cameras import camera_input
from headrace_common.shifts import Shift, Shifts
from headrace_results.cameras.apply import CameraState, change_for_entry, changes_for_report
from headrace_results.cameras.ended import (
    EndedJobs,
    Suspects,
    Walk,
    tell_cancelled,
    tell_settled,
)


def a_shift() -> Shift:
    return Shifts(seconds=60).begin()


def end_job(bench: Bench, status: JobStatus, **changes: Any) -> str:
    """Make a camera job that has ended."""
    parsed = PreprocessEntry.parse(entry(camera="cam", jobId=uuid.uuid4().hex))
    new = NewJob(
        id=parsed.job_id,
        kind=JobKind.CCTV_PREPROCESS,
        lane=Lane.NORMAL,
        message="",
        input=camera_input(parsed),
        status=JobStatus.QUEUED,
    )
    bench.store.create(new)
    bench.store.apply([Change(job_id=new.id, to=status, message="", **changes)])
    return new.id


class Ended:
    """Walks of a stream of this test's own, over rows that others make as well."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.streams = Streams(bench.redis)

    def walk(self, status: JobStatus, tell: Callable[..., Any], *, after: float = 0) -> EndedJobs:
        plan = Walk(
            name="test",
            statuses=frozenset({status}),
            after=timedelta(seconds=after),
            history=timedelta(hours=1),
        )
        told = tell(self.bench.redis, self.streams.name)
        return EndedJobs(
            self.bench.redis,
            self.bench.database,
            plan,
            told,
            stream=self.streams.name,
        )

    def cancelled(self) -> set[str]:
        told: Any = self.bench.redis.hkeys(f"{self.streams.name}:cancelled")
        return {each.decode() for each in told}

    def settled(self) -> dict[str, Any]:
        told: Any = self.bench.redis.zrange(f"{self.streams.name}:settled", 0, -1)
        return {each["job_id"]: each for each in map(json.loads, told)}


@pytest.fixture
def ended(bench: Bench) -> Ended:
    return Ended(bench)


@pytest.mark.stack
def test_cancelled_jobs_are_told_again_after_a_flush(bench: Bench, ended: Ended) -> None:
    walk = ended.walk(JobStatus.CANCELLED, tell_cancelled)
    first = end_job(bench, JobStatus.CANCELLED)
    walk.run(a_shift())
    assert first in ended.cancelled()
    bench.redis.delete(f"{ended.streams.name}:cancelled", f"{ended.streams.name}:test:told")
    second = end_job(bench, JobStatus.CANCELLED)
    walk.run(a_shift())
    assert {first, second} <= ended.cancelled()


@pytest.mark.stack
def test_a_job_that_begins_anew_is_not_told_to_be_cancelled(bench: Bench, ended: Ended) -> None:
    """What was told of its first run is not meant of the second, and is not told again."""
    job_id = end_job(bench, JobStatus.CANCELLED)
    walk = ended.walk(JobStatus.CANCELLED, tell_cancelled)
    walk.run(a_shift())
    again = Change(job_id=job_id, to=JobStatus.QUEUED, message="", starts_run=True)
    bench.store.apply([again])
    fields = entry(jobId=job_id, jobRun="2")
    add_entry(bench.redis, ended.streams.name, PreprocessEntry.parse(fields))
    walk.run(a_shift())
    told: Any = bench.redis.hget(f"{ended.streams.name}:cancelled", job_id)
    assert told.endswith(b" 1")
    assert ended.streams.entries()[-1][1]["jobRun"] == "2"


@pytest.mark.stack
def test_what_is_kept_of_a_job_is_told_some_time_after_its_end(bench: Bench, ended: Ended) -> None:
    kept = result("x", "cam")
    done = end_job(bench, JobStatus.COMPLETED, result=kept)
    failed = end_job(bench, JobStatus.FAILED)
    later = ended.walk(JobStatus.COMPLETED, tell_settled, after=600)
    later.run(a_shift())
    assert done not in ended.settled(), "whatever others had that ended long ago"
    with bench.database.begin() as session:
        ago = Job.finished_at - timedelta(seconds=700)
        session.execute(update(Job).where(Job.id.in_([done, failed])).values(finished_at=ago))
    bench.redis.delete(f"{ended.streams.name}:test:told")
    for status in (JobStatus.COMPLETED, JobStatus.FAILED):
        ended.walk(status, tell_settled, after=600).run(a_shift())
        bench.redis.delete(f"{ended.streams.name}:test:told")
    told = ended.settled()
    assert told[done] == {"job_id": done, "cctv_id": "cam", "run": 1, "folder": kept["folder"]}
    assert told[failed]["folder"] is None


@pytest.mark.stack
def test_what_a_worker_may_have_stored_too_late_is_looked_at(bench: Bench, ended: Ended) -> None:
    failed = end_job(bench, JobStatus.FAILED)
    key = f"{ended.streams.name}:suspects"
    bench.redis.sadd(key, failed, "unknown")
    tell = tell_settled(bench.redis, ended.streams.name)
    suspects = Suspects(bench.redis, bench.database, tell, stream=ended.streams.name)
    assert suspects.run(Shifts(seconds=0).begin()) == 2, "whatever the sweep has left of the time"
    assert suspects.run(a_shift()) == 0
    assert [*ended.settled()] == [failed]
    assert bench.redis.exists(key) == 0


def read(fields: dict[str, str], state: CctvState, **more: Any) -> CctvReport:
    return CctvReport.model_validate_json(report(fields, "5-0", state, **more)["report"])


@pytest.mark.parametrize(
    ("state", "recorded"),
    [
        (CctvState.PROCESSING, []),
        (CctvState.QUEUED, [JobStatus.QUEUED]),
        (CctvState.COMPLETED, [JobStatus.COMPLETED]),
        (CctvState.FAILED, [JobStatus.FAILED]),
        (CctvState.CANCELLED, [JobStatus.CANCELLED]),
    ],
)
def test_what_is_said_of_another_run_is_recorded_and_ignored(
    state: CctvState, recorded: Sequence[JobStatus]
) -> None:
    told = read(entry(jobId="job"), state)
    now = CameraState(JobStatus.QUEUED, 30, "9-0", run=2)
    changes = changes_for_report(told, now)
    assert [change.to for change in changes] == recorded
    assert all(change.allowed_from() == frozenset() for change in changes)


def test_an_entry_of_another_run_says_nothing_of_this_one() -> None:
    now = CameraState(JobStatus.QUEUED, 30, "1-0", run=2)
    old, new = (PreprocessEntry.parse(entry(jobId="j", jobRun=run)) for run in ("1", "2"))
    assert change_for_entry(old, "5-0", now) is None
    assert change_for_entry(new, "5-0", now) is not None


def test_that_a_worker_stopped_changes_no_job() -> None:
    told = read(entry(jobId="job"), CctvState.CANCELLED)
    for status in (JobStatus.CANCELLED, JobStatus.PROCESSING):
        [change] = changes_for_report(told, CameraState(status, 30, "1-0"))
        assert change.allowed_from() == frozenset()


def test_the_folder_of_a_set_tells_the_run() -> None:
    at = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
    assert set_timestamp(at) == "20261122T103000.000Z"
    for run in (1, 2, 13):
        assert run_of_folder(f"p/cam/job/{set_timestamp(at, run)}/") == run
