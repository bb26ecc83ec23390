"""Shadow answers: what the other side of a roll-out said of a copy, compared and never applied.

A copy of a job has the job's id with `SHADOW_SUFFIX`, so that its reports are told from the
job's own by whatever way they come. They go through the inbox like all others; from there on
they change `shadow_runs` and nothing else.
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import structlog
from prometheus_client import Counter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from headrace_common.contracts import AnalysisReport, JobStatus, ReportStatus
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.db import Database, InboxReport, Job, ShadowRun
from headrace_common.telemetry.metrics import from_zero
from headrace_results.differences import MAX_LISTED, Difference, Tolerance, differences
from headrace_results.settings import ResultsSettings

log = structlog.get_logger()

_COMPARED: Final = Counter(
    "headrace_shadow_runs_compared_total",
    "Copies of jobs whose answer was held against the job's own",
    ["outcome"],
)
from_zero(_COMPARED, ("same", "different", "not_compared"))
_BATCH: Final = 100
#: A copy is of use for so long after its job has ended: then nobody waits for it any more.
_WANTED_FOR: Final = timedelta(hours=1)
#: Finished in a way that says something of the analysis.
_ANSWERED: Final = (JobStatus.COMPLETED, JobStatus.FAILED)


def is_shadow(job_id: str) -> bool:
    """Whether this is the id of a copy."""
    return job_id.endswith(SHADOW_SUFFIX) and job_id != SHADOW_SUFFIX


def original_id(job_id: str) -> str:
    """Return the id of the job that `job_id` is, or is a copy of."""
    return job_id.removesuffix(SHADOW_SUFFIX) if is_shadow(job_id) else job_id


def is_wanted(status: JobStatus, finished_at: datetime | None) -> bool:
    """Whether the answer of a copy is still wanted, which may come after that of its job."""
    if finished_at is None:
        return True
    return status is not JobStatus.CANCELLED and datetime.now(UTC) - finished_at < _WANTED_FOR


def apply(session: Session, report: InboxReport, tolerance: Tolerance) -> str:
    """Note what a report says of a copy.

    Args:
        session: of the transaction that marks the report as applied.
        report: a row whose job id `is_shadow`.
        tolerance: what counts as the same answer.

    Returns:
        What that did, for the inbox.
    """
    job_id = original_id(report.job_id)
    run = session.get(ShadowRun, job_id, with_for_update=True)
    if run is None:
        return "ignored: no copy of this job was sent"
    if report.run is not None and report.run != run.run:
        return "ignored: of another run of the job"
    said = AnalysisReport.model_validate(report.payload)
    if said.status is ReportStatus.PROCESSING:
        return "shadow: progress"
    if run.answered_at is not None:
        return "ignored: the copy was answered before"
    run.status, run.result = said.status, said.result
    run.error_code = said.error.code if said.error else None
    run.answered_at = func.clock_timestamp()
    job = session.get(Job, job_id)
    if job is not None and job.finished_at is not None:
        _compare(run, job, tolerance)
    return "shadow: answered"


class ShadowComparer:
    """Compares answers of copies that came before the job's own. Every replica does."""

    def __init__(
        self, database: Database, tolerance: Tolerance, *, interval_seconds: float
    ) -> None:
        """Look every `interval_seconds`."""
        self._database = database
        self._tolerance = tolerance
        self._interval_seconds = interval_seconds

    def step(self) -> float:
        """Compare one batch of what is due; none waits while there is more."""
        query = (
            select(ShadowRun, Job)
            .join(Job, Job.id == ShadowRun.job_id)
            .where(
                ShadowRun.answered_at.is_not(None),
                ShadowRun.same.is_(None),
                ShadowRun.differences.is_(None),
                Job.finished_at.is_not(None),
            )
            .order_by(ShadowRun.answered_at)
            .limit(_BATCH)
            .with_for_update(of=ShadowRun, skip_locked=True)
        )
        with self._database.begin() as session:
            pairs = session.execute(query).all()
            for run, job in pairs:
                _compare(run, job, self._tolerance)
        return 0.0 if len(pairs) == _BATCH else self._interval_seconds


def tolerance_of(settings: ResultsSettings) -> Tolerance:
    """Return what the settings say counts as the same."""
    return Tolerance(
        relative=settings.shadow_relative_tolerance,
        absolute=settings.shadow_absolute_tolerance,
        ignored=frozenset(settings.shadow_ignored_members),
    )


def _compare(run: ShadowRun, job: Job, tolerance: Tolerance) -> None:
    """Hold the two answers against each other."""
    if JobStatus(job.status) not in _ANSWERED:
        # Set, so that it is not looked at again.
        run.differences = {"not_compared": f"the job is {job.status}"}
        _COMPARED.labels(outcome="not_compared").inc()
        return
    found = list(islice(_found(run, job, tolerance), MAX_LISTED + 1))
    run.same = not found
    run.differences = {
        "listed": [asdict(difference) for difference in found[:MAX_LISTED]],
        "more": len(found) > MAX_LISTED,
    }
    _COMPARED.labels(outcome="same" if run.same else "different").inc()
    if found:
        log.warning("shadow.different", job_id=job.id, first=found[0].pointer)


def _found(run: ShadowRun, job: Job, tolerance: Tolerance) -> Iterable[Difference]:
    if run.status != job.status:
        return [Difference("/status", job.status, run.status)]
    if run.status == JobStatus.FAILED:
        if run.error_code != job.error_code:
            return [Difference("/error/code", job.error_code, run.error_code)]
        return []
    own, shadow = job.result or {}, run.result or {}
    return differences(own, _as_if_own(shadow, job.id), tolerance, pointer="/result")


def _as_if_own(value: Any, job_id: str) -> Any:
    """Return a copy's result with the job's id where it names its own, in URLs for instance."""
    match value:
        case str():
            return value.replace(f"{job_id}{SHADOW_SUFFIX}", job_id)
        case list():
            return [_as_if_own(item, job_id) for item in value]
        case dict():
            return {key: _as_if_own(item, job_id) for key, item in value.items()}
        case _:
            return value
