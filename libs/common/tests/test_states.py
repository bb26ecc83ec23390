"""The job's life: what may follow what, and the progress that clients know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_common.contracts.jobs import JobStatus
from headrace_common.jobs.states import (
    HOLDABLE,
    PROGRESS,
    analysis_progress,
    may_become,
    predecessors,
    processing_progress,
)

#: Of a job that begins at once; one that begins later is `scheduled` instead of `queuing`.
_LIFE = [
    JobStatus.UPLOADING,
    JobStatus.QUEUING,
    JobStatus.QUEUED,
    JobStatus.PROCESSING,
    JobStatus.QUEUED_FOR_ANALYSIS,
]


def test_the_whole_life_of_a_job_is_allowed() -> None:
    for before, after in zip(_LIFE, [*_LIFE[1:], JobStatus.COMPLETED], strict=True):
        assert may_become(before, after)


@pytest.mark.parametrize("later", range(1, len(_LIFE)))
def test_no_status_follows_a_later_one(later: int) -> None:
    for earlier in range(later):
        assert not may_become(_LIFE[later], _LIFE[earlier])


@pytest.mark.parametrize("final", [status for status in JobStatus if status.is_final])
def test_nothing_follows_a_final_status(final: JobStatus) -> None:
    assert not any(may_become(final, status) for status in JobStatus)


@pytest.mark.parametrize("status", JobStatus.open())
@pytest.mark.parametrize("end", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_every_open_job_may_fail_or_be_cancelled(status: JobStatus, end: JobStatus) -> None:
    assert may_become(status, end)


def test_an_answer_may_come_before_the_question_was_noted() -> None:
    assert may_become(JobStatus.PROCESSING, JobStatus.COMPLETED)
    assert may_become(JobStatus.QUEUED, JobStatus.QUEUED_FOR_ANALYSIS)


def test_a_file_that_is_not_stored_cannot_be_analysed() -> None:
    assert JobStatus.UPLOADING not in predecessors(JobStatus.COMPLETED)
    assert JobStatus.UPLOADING not in predecessors(JobStatus.QUEUED_FOR_ANALYSIS)


def test_a_job_that_begins_later_is_queued_and_nothing_else() -> None:
    after = {status for status in JobStatus if may_become(JobStatus.SCHEDULED, status)}
    assert after == {JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}
    assert predecessors(JobStatus.SCHEDULED) == {JobStatus.UPLOADING}
    assert JobStatus.SCHEDULED not in HOLDABLE


def test_progress_is_what_clients_know() -> None:
    shown = [*_LIFE, JobStatus.SCHEDULED, JobStatus.COMPLETED]
    assert {status.value: PROGRESS[status] for status in shown} == {
        "uploading": 10,
        "scheduled": 35,
        "queuing": 40,
        "queued": 50,
        "processing": 50,
        "queued_for_analysis": 80,
        "completed": 100,
    }


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_work_moves_a_job_between_its_first_per_cent_and_99(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 80 <= analysis_progress(low) <= analysis_progress(high) <= 99
    assert 50 <= processing_progress(low) <= processing_progress(high) <= 99
