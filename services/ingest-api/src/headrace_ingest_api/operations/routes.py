"""`DELETE /jobs/{job_id}/cancel` (A8), `POST /jobs/{job_id}/retry` and `POST /jobs/bulk` (O2)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from headrace_common.audit import actor_of
from headrace_common.contracts.jobs import JobStatus
from headrace_common.errors import (
    ConflictError,
    ForbiddenError,
    JobFinishedError,
    NotFoundError,
    UnavailableError,
)
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_ingest_api.operations.bulk import BulkAnswer, BulkJobs, BulkRequest
from headrace_ingest_api.operations.deeds import By, JobDeeds, RetryWish
from headrace_ingest_api.operations.errors import UnboundedBulkError
from headrace_ingest_api.resources import Resources


class CancelAnswer(BaseModel):
    """The job is cancelled."""

    message: str = "The job is cancelled"
    job_id: str
    status: Literal["cancelled"] = "cancelled"


class RetryAnswer(BaseModel):
    """The job is begun anew."""

    message: str = "The job is begun anew"
    job_id: str
    status: JobStatus = Field(description="`queued`, or `queuing` for a camera's job")
    run: int = Field(
        ge=1,
        description="Answers on earlier runs change nothing any more. 1 where the job was "
        "`scheduled`: it is queued now, in its first run",
    )


Writer = Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))]


def operations_router(resources: Resources) -> APIRouter:
    """Make the routes that cancel jobs and begin them anew."""
    router = APIRouter(tags=["jobs"])
    deeds = JobDeeds(resources)
    bulk = BulkJobs(resources, deeds)
    _add_single(router, deeds)

    @router.post("/jobs/bulk", responses=responses(UnboundedBulkError, UnavailableError))
    def work_on_many(wish: BulkRequest, caller: Writer) -> BulkAnswer:
        """Cancel or begin anew every job that a filter finds, newest first.

        With `dry_run` nothing is done; the answer tells how many jobs there are, and shows some.
        A call works on at most `limit` jobs; `next_cursor` leads to the rest.
        """
        return bulk.look(wish) if wish.dry_run else bulk.work(wish, actor=actor_of(caller))

    return router


def _add_single(router: APIRouter, deeds: JobDeeds) -> None:
    @router.delete(
        "/jobs/{job_id}/cancel",
        responses=responses(JobFinishedError, ForbiddenError, NotFoundError, UnavailableError),
    )
    def cancel_job(
        job_id: str,
        caller: Annotated[Principal, Depends(requires(Scope.JOBS_WRITE, legacy_endpoint=True))],
    ) -> CancelAnswer:
        """Cancel a job, wherever it is: uploading, waiting, in SQS, or being analysed.

        Who works on it hears of it within seconds and stops. A result that comes all the same is
        recorded and changes nothing.
        """
        for refusal in deeds.cancel([job_id], By(actor=actor_of(caller))).refusals:
            raise refusal.error
        return CancelAnswer(job_id=job_id)

    @router.post(
        "/jobs/{job_id}/retry",
        responses=responses(ConflictError, ForbiddenError, NotFoundError, UnavailableError),
    )
    def retry_job(
        job_id: str,
        caller: Writer,
        *,
        force: Annotated[
            bool, Query(description="Also where it is completed, whose result stays till the next")
        ] = False,
        run: Annotated[
            int | None,
            Query(ge=1, le=2**31 - 1, description="Only where it is in this run: safe to repeat"),
        ] = None,
    ) -> RetryAnswer:
        """Begin a job anew in its next run, from whatever status but `uploading`.

        What is under way for it is stopped, and answers on it change nothing any more. A job that
        is `scheduled` is queued now.
        """
        done = deeds.retry([job_id], By(actor=actor_of(caller)), RetryWish(force=force, run=run))
        for refusal in done.refusals:
            raise refusal.error
        answer = RetryAnswer(job_id=job_id, status=done.outcomes[0].status, run=done.runs[job_id])
        if not done.restarts[0].change.starts_run:
            answer.message = "The job is queued now"
        return answer
