"""Jobs whose retention is over: first what is stored of them goes, then the row.

1. The row is marked by `discard_at`, under its lock and only while the job is final and its
   retention is over. From then on nobody begins the job anew and nothing of it is shown but the
   row: it is never taken for whole. `retain_until` moves on, so that any number of replicas share
   the work, and one that crashes leaves the job to a later round.
2. What is stored goes, outside of any transaction. Each removal may be repeated.
3. The row goes, with its timeline and the reports on it, once nothing is stored any more.

A crash anywhere leaves a row that is marked, and the next round goes on with it. The other way
round would leave objects that nobody knows.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from pydantic import JsonValue
from sqlalchemy import delete, select, text

from headrace_common.circuit import CircuitBreaker
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.contracts.jobs import JobKind
from headrace_common.db import Database, InboxReport, Job
from headrace_common.errors import UnavailableError
from headrace_common.shifts import Shift
from headrace_ingest_api.cleaning.camera_sets import CameraSets
from headrace_ingest_api.cleaning.stored import own_recording, remove_recording, remove_results

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

#: Jobs that are marked, and removed, in one transaction.
_MOST: Final = 100
#: Jobs whose objects are removed at the same time: each is some calls of S3 after one another.
_THREADS: Final = 8

_MARK: Final = text("""
UPDATE jobs SET discard_at = coalesce(discard_at, clock_timestamp()),
    retain_until = clock_timestamp() + make_interval(secs => :again_seconds)
WHERE id IN (
    SELECT id FROM jobs
    WHERE retain_until < clock_timestamp() AND finished_at IS NOT NULL AND kind = :kind
    ORDER BY retain_until LIMIT :most FOR UPDATE SKIP LOCKED
)
RETURNING id, run, input, result, EXISTS (
    SELECT FROM shadow_runs WHERE shadow_runs.job_id = jobs.id) AS has_copy
""")


@dataclass(frozen=True)
class Marked:
    """A job that is to be removed."""

    id: str
    run: int
    input: dict[str, Any]
    result: dict[str, Any] | None
    has_copy: bool


class Purge:
    """Removes them."""

    def __init__(
        self,
        database: Database,
        client: "S3Client",
        breaker: CircuitBreaker,
        cameras: CameraSets,
        *,
        bucket: str,
        retry_seconds: float,
    ) -> None:
        """Make it.

        Args:
            database: where the jobs are.
            client: calls S3.
            breaker: of S3.
            cameras: has the sets of camera jobs removed.
            bucket: of recordings and results.
            retry_seconds: a job whose objects could not be removed is tried again after that.
        """
        self._database = database
        self._client = client
        self._breaker = breaker
        self._cameras = cameras
        self._bucket = bucket
        self._retry_seconds = retry_seconds

    def run(self, shift: Shift) -> dict[str, JsonValue]:
        """Remove what is due, and return how many jobs of each kind were removed, and told of."""
        # First those that cost little: a backlog of recordings may take the whole time.
        again_seconds = self._cameras.again_seconds
        cameras = self._without_sets(shift) + self._purged(
            JobKind.CCTV_PREPROCESS, again_seconds, self._cameras.tell, shift
        )
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="purge") as pool:

            def stored_gone(jobs: Sequence[Marked]) -> list[Marked]:
                gone = pool.map(self._is_removed, jobs)
                return [job for job, done in zip(jobs, gone, strict=True) if done]

            audio = self._purged(JobKind.AUDIO_ANALYSIS, self._retry_seconds, stored_gone, shift)
        return {"audio_jobs": audio, "camera_jobs": cameras, "cameras_told": self._cameras.told()}

    def _purged(
        self,
        kind: JobKind,
        again_seconds: float,
        stored_gone: Callable[[Sequence[Marked]], Sequence[Marked]],
        shift: Shift,
    ) -> int:
        removed = 0
        while not shift.is_over() and self._breaker.seconds_left <= 0:
            marked = self._mark(kind, again_seconds)
            gone = stored_gone(marked)
            removed += self._remove_rows(job.id for job in gone)
            if len(marked) < _MOST:
                break
        return removed

    def _without_sets(self, shift: Shift) -> int:
        """Remove the rows of camera jobs of which nothing is left."""
        removed = 0
        while not shift.is_over() and (ids := self._cameras.without_sets(most=_MOST)):
            removed += self._remove_rows(ids)
            self._cameras.forget(ids)
        return removed

    def _mark(self, kind: JobKind, again_seconds: float) -> list[Marked]:
        asked = {"kind": kind, "again_seconds": again_seconds, "most": _MOST}
        with self._database.begin() as session:
            return [Marked(*row) for row in session.execute(_MARK, asked)]

    def _is_removed(self, job: Marked) -> bool:
        """Remove what is stored of an audio job; whether nothing is left."""
        try:
            recording = own_recording(job.id, job.input.get("s3_audio_url"), self._bucket)
            if recording is not None:
                remove_recording(self._client, recording)
            remove_results(self._client, self._bucket, job.id)
            if job.has_copy:
                remove_results(self._client, self._bucket, job.id + SHADOW_SUFFIX)
        except UnavailableError:
            log.warning("cleaning.purge_postponed", job_id=job.id, seconds=self._retry_seconds)
            return False
        return True

    def _remove_rows(self, job_ids: Iterable[str]) -> int:
        """Remove rows that are marked, and return how many these are."""
        ids = sorted(job_ids)
        if not ids:
            return 0
        with self._database.begin() as session:
            query = (
                select(Job.id)
                .where(Job.id.in_(ids), Job.finished_at.is_not(None), Job.discard_at.is_not(None))
                .order_by(Job.id)
                .with_for_update()
            )
            marked = list(session.scalars(query))
            named = [*marked, *(job_id + SHADOW_SUFFIX for job_id in marked)]
            for statement in (
                delete(InboxReport).where(InboxReport.job_id.in_(named)),
                delete(Job).where(Job.id.in_(marked)),
            ):
                session.execute(statement.execution_options(synchronize_session=False))
        log.info("cleaning.purged", jobs=len(marked))
        return len(marked)
