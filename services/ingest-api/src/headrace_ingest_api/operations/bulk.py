"""The same deed for every job that a filter finds: looked at first, bounded, in small batches."""

import math
import time
from collections import Counter
from typing import Annotated, Final, Literal, Self
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from headrace_common import audit
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db.models import Job
from headrace_common.jobs import JobFilter, JobQueries
from headrace_ingest_api.operations.deeds import By, Done, JobDeeds, RetryWish
from headrace_ingest_api.operations.errors import UnboundedBulkError
from headrace_ingest_api.resources import Resources

#: Jobs of one transaction: their rows are locked for some hundredths of a second.
_BATCH: Final = 50
#: Jobs that a dry run shows, and refusals that an answer tells one by one.
_SHOWN: Final = 20
#: Longest that a call works on its jobs where a rate is asked for.
_MAX_SECONDS: Final = 60.0
_MAX_IDS: Final = 1_000

_Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class BulkFilter(BaseModel):
    """Which jobs; every field that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    statuses: list[JobStatus] = Field(
        default_factory=list,
        description="Without any, and without `ids`: open jobs to cancel, failed ones to retry",
    )
    kind: JobKind | None = None
    priority: Lane | None = None
    token_id: _Text | None = None
    created_after: AwareDatetime | None = Field(default=None, description="Inclusive")
    created_before: AwareDatetime | None = Field(default=None, description="Exclusive")
    error_code: _Text | None = Field(default=None, examples=["dispatch_failed"])
    waiting_for: _Text | None = Field(default=None, examples=["sqs"])
    ids: list[_Text] = Field(default_factory=list, max_length=_MAX_IDS)

    @property
    def is_empty(self) -> bool:
        """Whether it leaves all jobs in."""
        return not any(value for value in self.model_dump().values())


class BulkRequest(BaseModel):
    """What is to be done to which jobs."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["cancel", "retry"]
    filter: BulkFilter = Field(default_factory=BulkFilter)
    all: bool = Field(default=False, description="That an empty filter is meant as it is")
    force: bool = Field(default=False, description="Retry completed jobs too")
    dry_run: bool = Field(default=False, description="Only tell what there is to do")
    limit: int = Field(default=500, ge=1, le=1_000, description="Most jobs of this call")
    rate_per_second: float | None = Field(
        default=None, gt=0, le=1_000, description="Most jobs a second; a call takes 60 s at most"
    )
    cursor: str | None = Field(
        default=None, max_length=1_000, description="`next_cursor` of the call before"
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.rate_per_second and self.limit / self.rate_per_second > _MAX_SECONDS:
            most = max(math.floor(_MAX_SECONDS * self.rate_per_second), 1)
            raise ValueError(f"at that rate a call takes too long: set limit to at most {most}")
        return self

    def check(self) -> None:
        """Check that it says which jobs it means.

        Raises:
            UnboundedBulkError: it does not.
        """
        if self.filter.is_empty and not self.all:
            raise UnboundedBulkError("an empty filter means every job: say so with `all`")

    def wanted(self) -> JobFilter:
        """Return the filter, with the statuses that the action goes with where none are given."""
        statuses = tuple(self.filter.statuses)
        if not statuses and not self.filter.ids:
            statuses = JobStatus.open() if self.action == "cancel" else (JobStatus.FAILED,)
        return JobFilter(
            statuses=statuses,
            kind=self.filter.kind,
            lane=self.filter.priority,
            token_id=self.filter.token_id,
            created_after=self.filter.created_after,
            created_before=self.filter.created_before,
            error_code=self.filter.error_code,
            waiting_for=self.filter.waiting_for,
            ids=tuple(self.filter.ids),
        )


class BulkJob(BaseModel):
    """One of the jobs that were found."""

    job_id: str
    kind: JobKind
    status: JobStatus
    error_code: str | None
    message: str


class BulkRefusal(BaseModel):
    """A job that was left as it is."""

    job_id: str
    code: str
    detail: str


class BulkAnswer(BaseModel):
    """What there is to do, or what was done."""

    action: Literal["cancel", "retry"]
    dry_run: bool
    matched: int = Field(description="Jobs that the filter finds, before anything is done")
    outcomes: dict[str, int] = Field(
        description="Jobs by what became of them: `cancelled` or `retried`, or the code of the "
        "problem for which they were left as they are"
    )
    refusals: list[BulkRefusal] = Field(description="The first of those")
    sample: list[BulkJob] = Field(description="Of a dry run: the first jobs")
    next_cursor: str | None = Field(description="`cursor` of the next call; null: all are done")


class BulkJobs:
    """Does bulks. Every method blocks."""

    def __init__(self, resources: Resources, deeds: JobDeeds) -> None:
        """Find jobs in the database of `resources`, and do `deeds` to them."""
        self._database = resources.database
        self._deeds = deeds

    def look(self, wish: BulkRequest) -> BulkAnswer:
        """Tell what there is to do."""
        wish.check()
        with self._database.begin() as session:
            queries = JobQueries(session)
            matched = queries.count(wish.wanted())
            page = queries.page(wish.wanted(), limit=_SHOWN, cursor=wish.cursor)
        return BulkAnswer(
            action=wish.action,
            dry_run=True,
            matched=matched,
            outcomes={},
            refusals=[],
            sample=[_shown(job) for job in page.jobs],
            next_cursor=wish.cursor,
        )

    def work(self, wish: BulkRequest, *, actor: str) -> BulkAnswer:
        """Do it to at most `limit` jobs, newest first.

        What is created meanwhile is left out, so that calls one after the other come to an end.
        """
        wish.check()
        by = By(actor=actor, details={"bulk": str(uuid4())})
        matched = self._begin(wish, by)
        answer = BulkAnswer(
            action=wish.action,
            dry_run=False,
            matched=matched,
            outcomes={},
            refusals=[],
            sample=[],
            next_cursor=wish.cursor,
        )
        outcomes: Counter[str] = Counter()
        left, started = wish.limit, time.monotonic()
        while left > 0:
            size = min(left, _batch_size(wish.rate_per_second))
            with self._database.begin() as session:
                page = JobQueries(session).page(
                    wish.wanted(), limit=size, cursor=answer.next_cursor
                )
            done = self._do(wish, [job.id for job in page.jobs], by)
            _count(wish, done, outcomes, answer.refusals)
            answer.next_cursor = page.next_cursor
            left -= len(page.jobs)
            if page.next_cursor is None:
                break
            if wish.rate_per_second:
                _pace(started, wish.limit - left, wish.rate_per_second)
        answer.outcomes = dict(outcomes)
        return answer

    def _begin(self, wish: BulkRequest, by: By) -> int:
        """Note who wants it; the jobs are noted one by one as they are done."""
        meant = wish.model_dump(mode="json", exclude_defaults=True, exclude={"action", "cursor"})
        with self._database.begin() as session:
            audit.record(
                session,
                actor=by.actor,
                action=f"jobs.bulk_{wish.action}",
                target="jobs",
                **by.details,
                **meant,
            )
            return JobQueries(session).count(wish.wanted())

    def _do(self, wish: BulkRequest, job_ids: list[str], by: By) -> Done:
        if wish.action == "cancel":
            return self._deeds.cancel(job_ids, by)
        statuses = wish.wanted().statuses
        return self._deeds.retry(job_ids, by, RetryWish(force=wish.force, statuses=statuses))


def _batch_size(rate: float | None) -> int:
    """Return how many jobs go together: about a second's worth where a rate is asked for."""
    return _BATCH if rate is None else max(min(_BATCH, int(rate)), 1)


def _pace(started: float, count: int, rate: float) -> None:
    """Wait until `count` jobs may have been done."""
    time.sleep(max(started + count / rate - time.monotonic(), 0.0))


def _count(
    wish: BulkRequest, done: Done, outcomes: Counter[str], refusals: list[BulkRefusal]
) -> None:
    succeeded = sum(outcome.applied for outcome in done.outcomes)
    if succeeded:
        outcomes["cancelled" if wish.action == "cancel" else "retried"] += succeeded
    for refusal in done.refusals:
        outcomes[refusal.error.code] += 1
        if len(refusals) < _SHOWN:
            refusals.append(
                BulkRefusal(
                    job_id=refusal.job_id, code=refusal.error.code, detail=refusal.error.detail
                )
            )


def _shown(job: Job) -> BulkJob:
    return BulkJob(
        job_id=job.id,
        kind=JobKind(job.kind),
        status=JobStatus(job.status),
        error_code=job.error_code,
        message=job.message,
    )
