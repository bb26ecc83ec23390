"""Jobs that ended before they were accepted: S3 keeps nothing of their recordings.

A row is claimed by moving its `discard_at` on, so that any number of replicas share the work,
one that crashes or freezes holds nothing up, and what S3 does not do now is tried again.
"""

from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import func, text, update

from headrace_common.circuit import CircuitBreaker
from headrace_common.db import Database, Job
from headrace_common.errors import UnavailableError
from headrace_common.shifts import Shift
from headrace_ingest_api.cleaning.removal import remove
from headrace_ingest_api.cleaning.stored import own_recording

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

#: Jobs that one replica takes at a time.
_MOST: Final = 50

_CLAIM: Final = text("""
UPDATE jobs SET discard_at = clock_timestamp() + make_interval(secs => :retry_seconds)
WHERE id IN (
    SELECT id FROM jobs
    WHERE discard_at <= clock_timestamp() AND discarded_at IS NULL
    ORDER BY discard_at LIMIT :most FOR UPDATE SKIP LOCKED
)
RETURNING id, input ->> 's3_audio_url' AS url
""")


class Discards:
    """Removes what ended uploads left."""

    def __init__(
        self,
        database: Database,
        client: "S3Client",
        breaker: CircuitBreaker,
        *,
        bucket: str,
        retry_seconds: float,
    ) -> None:
        """Work with these, on recordings in `bucket`; try again after `retry_seconds`."""
        self._database = database
        self._client = client
        self._breaker = breaker
        self._bucket = bucket
        self._retry_seconds = retry_seconds

    def run(self, shift: Shift) -> int:
        """Remove what is due, and return for how many jobs that was done."""
        done = 0
        while not shift.is_over() and self._breaker.seconds_left <= 0:
            claimed, removed = self._batch()
            done += removed
            if claimed < _MOST:
                break
        return done

    def _batch(self) -> tuple[int, int]:
        """Take some jobs, and return how many these were, and for how many it was done."""
        with self._database.begin() as session:
            due = session.execute(
                _CLAIM, {"retry_seconds": self._retry_seconds, "most": _MOST}
            ).all()
        done = [job_id for job_id, url in due if self._removed(job_id, url)]
        if done:
            with self._database.begin() as session:
                session.execute(
                    update(Job).where(Job.id.in_(done)).values(discarded_at=func.clock_timestamp())
                )
        return len(due), len(done)

    def _removed(self, job_id: str, url: str | None) -> bool:
        # A job that is being purged is among them, and may name what is somebody else's.
        recording = own_recording(job_id, url, self._bucket)
        if recording is None:
            return True
        try:
            remove(self._client, recording)
        except UnavailableError:
            log.warning("cleaning.postponed", job_id=job_id, seconds=self._retry_seconds)
            return False
        log.info("cleaning.discarded", job_id=job_id)
        return True
