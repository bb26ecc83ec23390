"""A camera job's row: made of an entry or a report, and read."""

from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.contracts.cctv import CctvReport, MalformedEntryError, PreprocessEntry
from headrace_common.db import Job
from headrace_common.errors import ConflictError
from headrace_common.jobs import NewJob
from headrace_common.jobs.cameras import camera_input
from headrace_results.cameras.apply import CameraState


class OtherKindError(ConflictError):
    """The id belongs to a job of another kind."""

    code = "job_of_another_kind"
    title = "Job of another kind"


def state_of(job: Job) -> CameraState:
    """Return where a camera job is.

    Raises:
        OtherKindError: it is none.
    """
    if job.kind != JobKind.CCTV_PREPROCESS:
        raise OtherKindError(f"job {job.id!r} is of another kind")
    return CameraState(
        JobStatus(job.status), job.progress, job.queue_message_id, dict(job.meta), job.run
    )


def job_of(entry: PreprocessEntry, entry_id: str) -> NewJob:
    """Make the job of an entry that waits."""
    return NewJob(
        id=entry.job_id,
        kind=JobKind.CCTV_PREPROCESS,
        lane=Lane.NORMAL,
        message="Waiting in the stream",
        input=camera_input(entry),
        status=JobStatus.QUEUED,
        queue_message_id=entry_id,
    )


def job_of_report(report: CctvReport) -> NewJob:
    """Make the job of a report whose entry was not read yet, or is none that can be read."""
    try:
        entry = PreprocessEntry.parse({**report.entry, "jobId": report.job_id})
    except MalformedEntryError:
        return NewJob(
            id=report.job_id,
            kind=JobKind.CCTV_PREPROCESS,
            lane=Lane.NORMAL,
            message="Read from the stream",
            input={"entry": dict(report.entry)},
            status=JobStatus.QUEUED,
            queue_message_id=report.entry_id,
        )
    return job_of(entry, report.entry_id)
