"""Applying one report to its job, exactly once."""

import structlog
from sqlalchemy import func
from sqlalchemy.orm import Session

from headrace_common.contracts import ANALYSIS_PROGRESS, AnalysisReport, JobKind, JobStatus
from headrace_common.contracts.cctv import CctvReport
from headrace_common.db import POISONED, Database, InboxReport, Job
from headrace_common.jobs import JobStore, Outcome
from headrace_common.telemetry.trace import note_job
from headrace_results import inbox, shadow
from headrace_results.apply import JobState, change_for, change_of_other_run, outcome_text
from headrace_results.cameras.apply import changes_for_report, run_of
from headrace_results.cameras.rows import state_of
from headrace_results.differences import Tolerance
from headrace_results.inbox import Source
from headrace_results.metrics import REPORTS_APPLIED

log = structlog.get_logger()


class ReportApplier:
    """Applies reports; any number of threads and processes may try the same one."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        *,
        max_attempts: int,
        tolerance: Tolerance | None = None,
    ) -> None:
        """Make it.

        Args:
            database: where the inbox and the jobs are.
            store: changes jobs.
            max_attempts: after so many a report is set aside as poisoned.
            tolerance: what counts as the same answer of a copy.
        """
        self._tolerance = tolerance or Tolerance()
        self._database = database
        self._store = store
        self._max_attempts = max_attempts

    def apply(self, inbox_id: int) -> None:
        """Apply a report, or note why that failed; the sweep tries again.

        Nothing is raised: the inbox is the one place that keeps what is left to do, and a
        retry or a dead letter of the message queue beside it would say the same less well.
        """
        attempt: int | None = None
        try:
            with self._database.begin() as session:
                attempt = inbox.begin_attempt(session, inbox_id)
            if attempt is None:
                return
            if attempt > self._max_attempts:
                self._give_up(inbox_id, attempt - 1, "the last one ended its process")
            else:
                self._apply_earlier(inbox_id)
                self._apply_once(inbox_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted and tried again
            self._note(inbox_id, attempt, error)

    def _apply_earlier(self, inbox_id: int) -> None:
        """Apply what came before on the same job: another worker may have it and be slower."""
        with self._database.begin() as session:
            earlier = inbox.waiting_before(session, inbox_id)
        for other_id in earlier:
            try:
                self._apply_once(other_id)
            except Exception as error:  # noqa: BLE001 - its own actor and the sweep see to it
                log.warning("report.earlier_not_applied", inbox_id=other_id, error=str(error)[:500])

    def _apply_once(self, inbox_id: int) -> None:
        """Change the job and mark the report in one transaction."""
        with self._database.begin() as session:
            row = inbox.lock(session, inbox_id)
            if row is None:
                return
            outcomes = self._apply_in(session, row)
            row.applied_at = func.clock_timestamp()
            result, job_id = row.outcome, row.job_id
            note_job(job_id)
        self._store.publish(outcomes)
        REPORTS_APPLIED.labels(outcome=(result or "").partition(":")[0]).inc()
        log.info("report.applied", inbox_id=inbox_id, job_id=job_id, outcome=result)

    def _apply_in(self, session: Session, row: InboxReport) -> list[Outcome]:
        if row.source != Source.STREAM and shadow.is_shadow(row.job_id):
            row.outcome = shadow.apply(session, row, self._tolerance)
            return []
        job = session.get(Job, row.job_id, with_for_update=True)
        if job is None:
            row.outcome = "ignored: job was purged"
            return []
        if (job.kind == JobKind.CCTV_PREPROCESS) != (row.source == Source.STREAM):
            # An analysis server has no say in a camera's job, nor the preprocessor in others.
            row.outcome = f"ignored: {row.source} does not report on jobs of kind {job.kind}"
            return []
        if row.source == Source.STREAM:
            return self._apply_camera(session, row, job)
        if row.run not in {None, job.run}:
            return self._ignore_other_run(session, row, job)
        state = JobState(JobStatus(job.status), job.progress, job.meta.get(ANALYSIS_PROGRESS))
        report = AnalysisReport.model_validate(row.payload)
        outcomes = self._store.apply_in(session, [change_for(job.id, report, state)])
        row.outcome = outcome_text(outcomes[0], state.progress)
        return outcomes

    def _ignore_other_run(self, session: Session, row: InboxReport, job: Job) -> list[Outcome]:
        """Record what is said of a run that is over; of its progress nothing is told."""
        row.outcome = f"ignored: of run {row.run}, the job is in run {job.run}"
        change = change_of_other_run(job.id, AnalysisReport.model_validate(row.payload), row.run)
        return [] if change is None else self._store.apply_in(session, [change])

    def _apply_camera(self, session: Session, row: InboxReport, job: Job) -> list[Outcome]:
        state = state_of(job)
        report = CctvReport.model_validate(row.payload)
        outcomes = self._store.apply_in(session, changes_for_report(report, state))
        if any(outcome.applied for outcome in outcomes):
            row.outcome = "applied"
        elif run_of(report) != job.run:
            row.outcome = f"ignored: of run {run_of(report)}, the job is in run {job.run}"
        elif state.status.is_final:
            row.outcome = f"ignored: job is {state.status}"
        else:
            row.outcome = "ignored: something newer was reported before"
        return outcomes

    def _note(self, inbox_id: int, attempt: int | None, error: Exception) -> None:
        reason = type(error).__name__
        if attempt is not None and attempt >= self._max_attempts:
            self._give_up(inbox_id, attempt, reason)
            return
        REPORTS_APPLIED.labels(outcome="failed").inc()
        log.warning("report.apply_failed", inbox_id=inbox_id, attempt=attempt, exc_info=error)
        self._write(inbox_id, f"failed: {reason}")

    def _give_up(self, inbox_id: int, attempts: int, reason: str) -> None:
        REPORTS_APPLIED.labels(outcome="poisoned").inc()
        log.error("report.poisoned", inbox_id=inbox_id, attempts=attempts, reason=reason)
        self._write(inbox_id, f"{POISONED}gave up after {attempts} attempts: {reason}")

    def _write(self, inbox_id: int, outcome: str) -> None:
        try:
            with self._database.begin() as session:
                inbox.note_failure(session, inbox_id, outcome)
        except Exception as error:  # noqa: BLE001 - the database is away; the row waits as it is
            log.warning("report.failure_not_noted", inbox_id=inbox_id, error=str(error)[:500])
