"""What a replay does, and which letters share a cause: pure decisions."""

import pytest

from headrace_common.contracts.jobs import JobStatus
from headrace_dispatcher.dead.fingerprint import fingerprint, normalised
from headrace_dispatcher.dead.from_dramatiq import last_error
from headrace_dispatcher.dead.letter import Kind
from headrace_dispatcher.dead.plan import Action, JobFacts, LetterFacts, plan_replay


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no job 'job-0f8fad5b-d9cb-469f-a165-70867728950e'", None),
        ("after 3 retries", "after 12 retries"),
        ("https://u:p@cam-7/live.m3u8?key=a", "https://cam-8/x.m3u8"),
        ("at 2026-11-25T23:33:44.123Z", "at 2025-01-01 00:00:00+01:00"),
        ("<object at 0x7f00aa>", "<object at 0x1200>"),
        ("etag 9e107d9d372bb682", "etag e4d909c290d0fb1c"),
        ("upload 0ujsswThIGTUYm2K8FjOOfXtY1K", "upload 0ujsszwN8NRY24YaXiTIE2VWDTS"),
        ("entry 1764102000000-0", "entry 1764102009999-12"),
    ],
)
def test_what_differs_between_letters_of_one_cause_is_left_out(one: str, other: str | None) -> None:
    other = other or "no job 'job-7c9e6679-7425-40de-944b-e07fc1f90ae7'"
    assert normalised(one) == normalised(other)


def test_letters_of_other_causes_have_other_fingerprints() -> None:
    cause = {"source": "sqs", "queue": "q", "code": "c", "reason": "host not allowed"}
    others = [cause | {name: "other"} for name in cause]
    found = {fingerprint(**each) for each in (cause, *others)}
    assert len(found) == 5
    assert fingerprint(**cause) == fingerprint(**cause)
    assert all(len(each) == 16 for each in found)


def _plan(kind: Kind, status: JobStatus | None, *, run: int | None = None) -> Action:
    job = JobFacts(status, run=2) if status else None
    return plan_replay(LetterFacts(kind, run=run), job).action


@pytest.mark.parametrize(
    ("kind", "status", "action"),
    [
        (Kind.DISPATCH, JobStatus.FAILED, Action.RESTART),
        (Kind.DISPATCH, JobStatus.PROCESSING, Action.REQUEUE),
        (Kind.DISPATCH, JobStatus.QUEUED_FOR_ANALYSIS, Action.OBSOLETE),
        (Kind.DISPATCH, JobStatus.COMPLETED, Action.OBSOLETE),
        (Kind.DISPATCH, None, Action.OBSOLETE),
        (Kind.ANALYSIS_REQUEST, JobStatus.FAILED, Action.RESTART),
        (Kind.ANALYSIS_REQUEST, JobStatus.QUEUED_FOR_ANALYSIS, Action.ASK_AGAIN),
        (Kind.ANALYSIS_REQUEST, JobStatus.QUEUED, Action.OBSOLETE),
        (Kind.ANALYSIS_REQUEST, JobStatus.CANCELLED, Action.OBSOLETE),
        (Kind.ANALYSIS_REPORT, JobStatus.QUEUED_FOR_ANALYSIS, Action.SEND_AGAIN),
        (Kind.ANALYSIS_REPORT, JobStatus.FAILED, Action.OBSOLETE),
        (Kind.ANALYSIS_REPORT, None, Action.OBSOLETE),
        (Kind.STREAM_ENTRY, JobStatus.FAILED, Action.RESTART),
        (Kind.STREAM_ENTRY, JobStatus.PROCESSING, Action.RESTART),
        (Kind.STREAM_ENTRY, None, Action.SEND_AGAIN),
        (Kind.STREAM_REPORT, None, Action.SEND_AGAIN),
        (Kind.STREAM_REPORT, JobStatus.COMPLETED, Action.OBSOLETE),
        (Kind.INBOX_REPORT, JobStatus.COMPLETED, Action.APPLY_AGAIN),
        (Kind.APPLY_REPORT, None, Action.SEND_AGAIN),
    ],
)
def test_what_a_replay_does(kind: Kind, status: JobStatus | None, action: Action) -> None:
    assert _plan(kind, status) is action


def test_what_is_of_an_earlier_run_disturbs_no_later_one() -> None:
    sent = JobStatus.QUEUED_FOR_ANALYSIS
    assert _plan(Kind.ANALYSIS_REQUEST, sent, run=1) is Action.OBSOLETE
    assert _plan(Kind.ANALYSIS_REQUEST, sent, run=2) is Action.ASK_AGAIN
    assert _plan(Kind.STREAM_ENTRY, JobStatus.PROCESSING, run=1) is Action.OBSOLETE
    assert _plan(Kind.STREAM_ENTRY, JobStatus.FAILED, run=1) is Action.RESTART


def test_a_copy_and_a_job_that_was_never_accepted_are_left_alone() -> None:
    copy = LetterFacts.of(Kind.ANALYSIS_REQUEST, "job-1.shadow", 1)
    assert plan_replay(copy, None).action is Action.OBSOLETE
    failed = JobFacts.of("failed", 1, discarded=True)
    assert plan_replay(LetterFacts(Kind.DISPATCH), failed).action is Action.OBSOLETE


def test_the_last_error_of_a_traceback_is_read() -> None:
    frame = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    f()\n    ~^^\n'
    assert last_error(f"{frame}pkg.errors.GoneError: it\n  is gone") == (
        "GoneError",
        "it\n  is gone",
    )
    assert last_error(f"{frame}KeyError") == ("KeyError", "KeyError")
    assert last_error("no traceback") is None
