"""What a report means for its job: pure decisions."""

from dataclasses import dataclass

from pydantic import JsonValue

from headrace_common.contracts import ANALYSIS_PROGRESS, AnalysisReport, JobStatus, ReportStatus
from headrace_common.jobs import Change, Failure, Outcome
from headrace_common.jobs.states import analysis_progress


@dataclass(frozen=True)
class JobState:
    """Where the job is when a report is applied.

    Attributes:
        progress: of the job, per cent.
        analysis_percent: what the analysis server told last, if it told any.
    """

    status: JobStatus
    progress: int
    analysis_percent: float | None = None


def change_for(job_id: str, report: AnalysisReport, state: JobState) -> Change:
    """Return what `report` wishes the job to become; the job's guard decides on it."""
    match report.status:
        case ReportStatus.PROCESSING:
            return _under_way(job_id, report, state)
        case ReportStatus.COMPLETED:
            return Change(
                job_id=job_id,
                to=JobStatus.COMPLETED,
                message=report.message or "The analysis is completed",
                result=report.result or {},
            )
        case ReportStatus.FAILED:
            assert report.error is not None  # noqa: S101 - the contract fills it in
            return Change(
                job_id=job_id,
                to=JobStatus.FAILED,
                message=report.message or f"The analysis failed: {report.error.message}",
                failure=Failure(report.error.code, report.error.message),
            )


def change_of_other_run(job_id: str, report: AnalysisReport, run: int | None) -> Change | None:
    """Return what notes in the timeline that another run than the job's ended; None: nothing does.

    It is refused wherever the job is, and has no metadata: that of another run is none of this.
    """
    if report.status is ReportStatus.PROCESSING:
        return None
    return Change(
        job_id=job_id,
        to=JobStatus(report.status),
        message=f"Run {run}: {report.message or report.status}",
        data={"run": run},
        only_from=frozenset(),
    )


def outcome_text(outcome: Outcome, progress: int) -> str:
    """Describe, for the inbox, what applying a report did.

    Args:
        outcome: what became of the change.
        progress: of the job before it, per cent.
    """
    if outcome.applied:
        return "applied"
    if outcome.status is JobStatus.QUEUED_FOR_ANALYSIS:
        return f"ignored: job is at {progress} per cent already"
    return f"ignored: job is {outcome.status}"


def _under_way(job_id: str, report: AnalysisReport, state: JobState) -> Change:
    percent = report.progress
    if percent is None:
        # A sign of life without a figure keeps the progress that was reached.
        reached = state.progress if state.status is JobStatus.QUEUED_FOR_ANALYSIS else 0
        progress = max(reached, analysis_progress(0))
        told: dict[str, JsonValue] = {}
    else:
        progress = analysis_progress(percent)
        told = {ANALYSIS_PROGRESS: percent}
    # A refused change merges its metadata all the same, so that a figure which came late goes
    # into the event only.
    late = state.status.is_final or (percent or 0) < (state.analysis_percent or 0)
    return Change(
        job_id=job_id,
        to=JobStatus.QUEUED_FOR_ANALYSIS,
        progress=progress,
        message=report.message or _progress_message(percent),
        metadata={} if late else told,
        data=told if late else {},
    )


def _progress_message(percent: float | None) -> str:
    return "Being analysed" if percent is None else f"Being analysed, {percent:.0f} per cent"
