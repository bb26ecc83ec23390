"""Why a job cannot be begun anew, or a bulk not be done."""

from headrace_common.errors import ConflictError, UnprocessableError


class JobCompletedError(ConflictError):
    """The job has its result, and nobody said that another is wanted."""

    code = "job_completed"
    title = "Job is completed"


class JobRunChangedError(ConflictError):
    """The job is in another run, or status, than it was when somebody looked."""

    code = "job_run_changed"
    title = "Job went on meanwhile"


class UnboundedBulkError(UnprocessableError):
    """A bulk names no jobs, and does not say that it means all; or it would take too long."""

    code = "unbounded_bulk"
    title = "Bulk without bounds"
