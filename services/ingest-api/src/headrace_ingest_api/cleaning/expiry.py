"""Direct uploads that nobody completes: their jobs fail, and S3 keeps nothing of them."""

from datetime import timedelta
from typing import Final

from sqlalchemy import and_, case, func, or_, select, update

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Database, DirectUpload, Job
from headrace_common.jobs import Change, Failure, JobStore
from headrace_common.shifts import Shift
from headrace_ingest_api.metrics import DIRECT_UPLOADS

_MOST: Final = 200
#: An upload that S3 gave no id by then never gets one: whoever asked for it has crashed.
_BEGINNING: Final = timedelta(minutes=5)
_ABANDONED: Final = Failure("upload_abandoned", "The direct upload was not completed in time")


class Expiry:
    """Ends them, and closes the rows of those whose job has gone on or ended."""

    def __init__(self, database: Database, store: JobStore) -> None:
        """Work with these."""
        self._database = database
        self._store = store

    def run(self, shift: Shift) -> int:
        """End what has expired, and return how many did."""
        expired = 0
        while not shift.is_over():
            found, ended = self._batch()
            expired += ended
            if found < _MOST:
                break
        return expired

    def _batch(self) -> tuple[int, int]:
        """Close some rows, and return how many these were, and how many jobs have expired."""
        now = func.clock_timestamp()
        due = or_(
            DirectUpload.expires_at <= now,
            and_(DirectUpload.upload_id.is_(None), DirectUpload.created_at < now - _BEGINNING),
            Job.status != JobStatus.UPLOADING,
        )
        query = (
            select(DirectUpload.job_id, Job.status)
            .join(Job, Job.id == DirectUpload.job_id)
            .where(DirectUpload.completed_at.is_(None), DirectUpload.aborted_at.is_(None), due)
            .order_by(DirectUpload.job_id)
            .limit(_MOST)
            # A completion gives its upload more time in this row, so that the two do not meet.
            .with_for_update(of=DirectUpload, skip_locked=True)
        )
        with self._database.begin() as session:
            rows = session.execute(query).all()
            expired = [_failing(job_id) for job_id, status in rows if status == JobStatus.UPLOADING]
            outcomes = self._store.apply_in(session, expired) if expired else []
            accepted = Job.discard_at.is_(None)
            session.execute(
                update(DirectUpload)
                .where(DirectUpload.job_id.in_([row.job_id for row in rows]))
                .where(Job.id == DirectUpload.job_id)
                .values(
                    completed_at=case((accepted, now)),
                    aborted_at=case((~accepted, now)),
                )
                .execution_options(synchronize_session=False)
            )
        self._store.publish(outcomes)
        ended = sum(outcome.applied for outcome in outcomes)
        DIRECT_UPLOADS.labels(outcome="expired").inc(ended)
        return len(rows), ended


def _failing(job_id: str) -> Change:
    return Change(
        job_id=job_id,
        to=JobStatus.FAILED,
        message=_ABANDONED.message,
        failure=_ABANDONED,
        only_from=frozenset({JobStatus.UPLOADING}),
    )
