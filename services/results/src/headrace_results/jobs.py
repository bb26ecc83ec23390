"""Reading jobs over HTTP: one, many, the timeline, and the reports that came in (A11)."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field, JsonValue

from headrace_common.contracts import JobEvent, JobKind, JobStatus, Lane
from headrace_common.db import Database, InboxReport
from headrace_common.errors import BadRequestError, NotFoundError
from headrace_common.jobs import JobFilter, JobQueries, JobView
from headrace_common.keys import Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_results import inbox
from headrace_results.params import JobId, OptionalIdQuery

Entry = TypeVar("Entry")


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


class Timeline(BaseModel):
    """What happened to a job, in order."""

    job_id: str
    events: list[JobEvent]
    next: int | None = Field(description="`after` of the next page; null on the last")


class ReportView(BaseModel):
    """A report as it came in, and what became of it."""

    id: int
    source: str = Field(
        description="webhook (signed), callback (with the job's token), sqs, or stream (of the "
        "gpu-preprocessor)"
    )
    deliveries: int = Field(description="How often it came in")
    attempts: int = Field(description="How often applying it was begun")
    outcome: str | None = Field(description="What applying it did; null while it waits")
    received_at: datetime
    last_received_at: datetime
    applied_at: datetime | None
    payload: dict[str, JsonValue]

    @classmethod
    def of(cls, row: InboxReport) -> "ReportView":
        """Show a row of the inbox."""
        return cls.model_validate(row, from_attributes=True)


class Reports(BaseModel):
    """The reports on a job, in the order they came."""

    job_id: str
    reports: list[ReportView]
    next: int | None = Field(description="`after` of the next page; null on the last")


Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of a page")]
#: Each report may be a mebibyte large.
ReportLimit = Annotated[int, Query(ge=1, le=50, description="Most entries of a page")]
After = Annotated[int, Query(ge=0, le=2**31 - 1, description="Only what comes after this one")]
AfterReport = Annotated[int, Query(ge=0, le=2**63 - 1, description="Only what comes after this")]


def _wanted(
    *,
    status: Annotated[list[JobStatus] | None, Query(description="One of these")] = None,
    kind: JobKind | None = None,
    priority: Lane | None = None,
    token_id: OptionalIdQuery = None,
    created_after: Annotated[AwareDatetime | None, Query(description="Inclusive")] = None,
    created_before: Annotated[AwareDatetime | None, Query(description="Exclusive")] = None,
    error_code: OptionalIdQuery = None,
    waiting_for: OptionalIdQuery = None,
) -> JobFilter:
    return JobFilter(
        statuses=tuple(status or ()),
        kind=kind,
        lane=priority,
        token_id=token_id,
        created_after=created_after,
        created_before=created_before,
        error_code=error_code,
        waiting_for=waiting_for,
    )


def jobs_router(database: Database) -> APIRouter:
    """Make the routes that read jobs from `database`."""
    router = APIRouter(tags=["jobs"])

    # Plain functions with a session of their own: they run in the thread pool.
    @router.get(
        "/jobs",
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses=responses(BadRequestError),
    )
    def list_jobs(
        wanted: Annotated[JobFilter, Depends(_wanted)],
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=1_000)] = None,
    ) -> JobList:
        """List jobs, newest first."""
        with database.begin() as session:
            page = JobQueries(session).page(wanted, limit=limit, cursor=cursor)
        return JobList(jobs=[JobView.of(job) for job in page.jobs], next_cursor=page.next_cursor)

    @router.get(
        "/jobs/{job_id}",
        dependencies=[Depends(requires(Scope.JOBS_READ, legacy_endpoint=True))],
        responses=responses(NotFoundError),
    )
    def read_job(job_id: JobId) -> JobView:
        """Show a job."""
        with database.begin() as session:
            return JobView.of(JobQueries(session).get(job_id))

    _add_history(router, database)
    return router


def _add_history(router: APIRouter, database: Database) -> None:
    guarded: dict[str, Any] = {
        "dependencies": [Depends(requires(Scope.JOBS_READ))],
        "responses": responses(NotFoundError),
    }

    @router.get("/jobs/{job_id}/timeline", **guarded)
    def read_timeline(job_id: JobId, after: After = 0, limit: Limit = 100) -> Timeline:
        """Show what happened to a job; `GET /jobs/{job_id}/events` streams the same."""
        with database.begin() as session:
            queries = JobQueries(session)
            queries.get(job_id)
            events = queries.events_after(job_id, after, limit=limit + 1)
        shown, following = _page(events, limit, lambda event: event.sequence)
        return Timeline(job_id=job_id, events=shown, next=following)

    @router.get("/jobs/{job_id}/reports", **guarded)
    def read_reports(job_id: JobId, after: AfterReport = 0, limit: ReportLimit = 20) -> Reports:
        """Show every report on a job, also those that changed nothing."""
        with database.begin() as session:
            JobQueries(session).get(job_id)
            rows = inbox.of_job(session, job_id, after=after, limit=limit + 1)
        views = [ReportView.of(row) for row in rows]
        shown, following = _page(views, limit, lambda view: view.id)
        return Reports(job_id=job_id, reports=shown, next=following)


def _page(
    entries: list[Entry], limit: int, number: Callable[[Entry], int]
) -> tuple[list[Entry], int | None]:
    """Split off the entry that was read only to see whether there are more."""
    shown = entries[:limit]
    return shown, number(shown[-1]) if len(entries) > limit else None
