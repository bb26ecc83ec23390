from typing import Any

import pytest

from headrace_common.contracts import AnalysisReport, JobStatus
from headrace_common.jobs import Failure, Outcome
from headrace_results.apply import JobState, change_for, outcome_text

ANALYSED = JobState(JobStatus.QUEUED_FOR_ANALYSIS, progress=80)


def report(**fields: Any) -> AnalysisReport:
    return AnalysisReport.model_validate(fields)


@pytest.mark.parametrize(("percent", "progress"), [(0, 80), (50, 89), (100, 99)])
def test_progress_is_mapped_into_the_last_fifth(percent: float, progress: int) -> None:
    change = change_for("j", report(status="processing", progress=percent), ANALYSED)

    assert (change.to, change.progress) == (JobStatus.QUEUED_FOR_ANALYSIS, progress)
    assert change.metadata == {"analysis_progress": percent}
    assert change.message == f"Being analysed, {percent} per cent"


def test_a_sign_of_life_keeps_the_progress() -> None:
    state = JobState(JobStatus.QUEUED_FOR_ANALYSIS, progress=91, analysis_percent=60)

    change = change_for("j", report(status="running", message="Still here"), state)

    assert (change.progress, change.metadata, change.message) == (91, {}, "Still here")


@pytest.mark.parametrize(
    "state",
    [
        JobState(JobStatus.QUEUED_FOR_ANALYSIS, progress=91, analysis_percent=60),
        JobState(JobStatus.COMPLETED, progress=100),
        JobState(JobStatus.CANCELLED, progress=80),
    ],
)
def test_a_late_figure_goes_into_the_event_only(state: JobState) -> None:
    change = change_for("j", report(status="processing", progress=10), state)

    assert (change.metadata, change.data) == ({}, {"analysis_progress": 10})


def test_success_brings_the_result() -> None:
    change = change_for("j", report(status="completed", result={"a": 1}), ANALYSED)

    assert (change.to, change.result, change.failure) == (JobStatus.COMPLETED, {"a": 1}, None)


def test_success_without_a_result_is_success() -> None:
    assert change_for("j", report(status="completed"), ANALYSED).result == {}


def test_failure_brings_its_reason() -> None:
    change = change_for(
        "j", report(status="failed", error={"code": "no_speech", "message": "Silence"}), ANALYSED
    )

    assert change.to is JobStatus.FAILED
    assert change.failure == Failure("no_speech", "Silence")
    assert change.message == "The analysis failed: Silence"


@pytest.mark.parametrize(
    ("applied", "status", "text"),
    [
        (True, JobStatus.COMPLETED, "applied"),
        (False, JobStatus.COMPLETED, "ignored: job is completed"),
        (False, JobStatus.UPLOADING, "ignored: job is uploading"),
        (False, JobStatus.QUEUED_FOR_ANALYSIS, "ignored: job is at 91 per cent already"),
    ],
)
def test_the_outcome_is_told(applied: bool, status: JobStatus, text: str) -> None:  # noqa: FBT001
    outcome = Outcome("j", applied=applied, status=status, deliveries=1, event=None)

    assert outcome_text(outcome, 91) == text
