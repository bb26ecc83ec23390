"""`DELETE /jobs/{job_id}/cancel` (A8)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from headrace_common.contracts.jobs import JobStatus
from headrace_common.errors import ForbiddenError, JobFinishedError, NotFoundError, UnavailableError
from headrace_common.jobs import Change, JobStore
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses


class CancelAnswer(BaseModel):
    """The job is cancelled."""

    message: str = "The job is cancelled"
    job_id: str
    status: Literal["cancelled"] = "cancelled"


def cancel_router(store: JobStore) -> APIRouter:
    """Make the route that cancels jobs."""
    router = APIRouter(tags=["jobs"])

    @router.delete(
        "/jobs/{job_id}/cancel",
        responses=responses(JobFinishedError, ForbiddenError, NotFoundError, UnavailableError),
    )
    def cancel_job(
        job_id: str,
        _caller: Annotated[Principal, Depends(requires(Scope.JOBS_WRITE, legacy_endpoint=True))],
    ) -> CancelAnswer:
        """Cancel a job, wherever it is: uploading, waiting, in SQS, or being analysed.

        A result that comes later is recorded and changes nothing.
        """
        cancel(store, job_id)
        return CancelAnswer(job_id=job_id)

    return router


def cancel(store: JobStore, job_id: str) -> None:
    """Cancel a job.

    Raises:
        NotFoundError: there is none with that id.
        JobFinishedError: it was finished, or got finished in this moment.
    """
    if "\0" in job_id:  # Postgres has no such text
        raise NotFoundError(f"no job {job_id[:100]!r}")
    change = Change(job_id=job_id, to=JobStatus.CANCELLED, message="Cancelled by a client")
    outcome = store.apply([change])[0]
    if not outcome.applied:
        raise JobFinishedError(f"the job is already {outcome.status}", job_status=outcome.status)
