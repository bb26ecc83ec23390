"""The plan is the seed's alone; the ledger outlives its writer, and says what had to come of it."""

from pathlib import Path
from typing import Any

import pytest
from headrace_chaos.ledger import Entry, Ledger, Promises, Verdict, read_entries
from headrace_chaos.plan import Shares, Way, make_plan

from headrace_common.contracts import JobKind, JobStatus


def accepted(job_id: str = "job-1", **more: Any) -> dict[str, Any]:
    told = {
        "what": Entry.ACCEPTED,
        "job_id": job_id,
        "item": 1,
        "key": "key-1",
        "kind": JobKind.AUDIO_ANALYSIS,
        "natural_end": JobStatus.COMPLETED,
    }
    return {**told, **more}


def deed(what: Entry, verdict: Verdict) -> dict[str, Any]:
    return {"what": what, "job_id": "job-1", "verdict": verdict}


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    plan = make_plan(7, jobs=300, seconds=60)
    assert plan == make_plan(7, jobs=300, seconds=60)
    assert plan != make_plan(8, jobs=300, seconds=60)
    assert {job.way for job in plan} == set(Way)
    assert len({job.cut.wav() for job in plan}) == len(plan), "two recordings are the same"
    later = [job for job in plan if job.delay is not None]
    assert later
    assert not any(job.is_camera or job.retry_after is not None for job in later)


def test_a_share_changes_nothing_but_what_it_is_of() -> None:
    with_cancels = make_plan(7, jobs=50, seconds=60)
    without = make_plan(7, jobs=50, seconds=60, shares=Shares(cancel=0))
    assert [job.cut for job in with_cancels] == [job.cut for job in without]
    assert all(job.cancel_after is None for job in without)


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.note(Entry.ADDED, job_id="job-1")
    ledger.close()
    with ledger.path.open("ab") as file:
        file.write(b'{"what": "add')
    assert [entry["job_id"] for entry in read_entries(ledger.path)] == ["job-1"]


@pytest.mark.parametrize(
    ("deeds", "ends", "runs"),
    [
        ([], {JobStatus.COMPLETED}, range(1, 2)),
        ([deed(Entry.CANCEL, Verdict.GRANTED)], {JobStatus.CANCELLED}, range(1, 2)),
        ([deed(Entry.CANCEL, Verdict.REFUSED)], {JobStatus.COMPLETED}, range(1, 2)),
        (
            [deed(Entry.CANCEL, Verdict.UNKNOWN), deed(Entry.CANCEL, Verdict.REFUSED)],
            {JobStatus.COMPLETED, JobStatus.CANCELLED},
            range(1, 2),
        ),
        (
            [deed(Entry.CANCEL, Verdict.GRANTED), deed(Entry.RETRY, Verdict.GRANTED)],
            {JobStatus.COMPLETED},
            range(2, 3),
        ),
        ([deed(Entry.RETRY, Verdict.UNKNOWN)], {JobStatus.COMPLETED}, range(1, 3)),
    ],
)
def test_what_was_answered_says_how_a_job_may_end(
    deeds: list[dict[str, Any]], ends: set[JobStatus], runs: range
) -> None:
    promise = Promises.of([accepted(), *deeds]).jobs["job-1"]
    assert promise.ends == frozenset(ends)
    assert promise.runs == runs


def test_an_entry_that_went_with_redis_before_anybody_read_it_is_excused() -> None:
    added = accepted(what=Entry.ADDED, key=None, kind=JobKind.CCTV_PREPROCESS, entry_id="1-0")
    twice = {**added, "entry_id": "2-0"}
    flushed = {"what": Entry.FLUSHED, "entries": ["1-0"]}
    once = Promises.of([added, flushed])
    assert once.is_excused(once.jobs["job-1"])
    kept = Promises.of([added, twice, flushed])
    assert not kept.is_excused(kept.jobs["job-1"]), "the other entry was still there"


def test_two_jobs_for_one_key_are_rivals() -> None:
    promises = Promises.of([accepted(), accepted("job-2"), accepted("job-3", key="key-2")])
    assert promises.rivals == {"job-1": {"job-2"}}
