"""Stored artefacts that outlived their retention, while their jobs stay.

A job is marked first, in its metadata with the run that is meant: from then on its artefacts are
not shown. Then the objects go, and at last they are no longer named in the result. Whoever crashes
in between leaves a mark that runs out, and the next round goes on. What a later run of the job has
stored meanwhile is younger, and stays.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import JsonValue
from sqlalchemy import text

from headrace_common.circuit import CircuitBreaker
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.db import Database
from headrace_common.errors import UnavailableError
from headrace_common.shifts import Shift
from headrace_ingest_api.cleaning.stored import remove_results

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

_MOST: Final = 50
#: A mark whose objects are not removed by then is another's to go on with.
_MARK_SECONDS: Final = 300.0

# The key is ARTIFACTS_EXPIRED of the contracts.
_MARK: Final = text("""
UPDATE jobs SET metadata = metadata || jsonb_build_object('artifacts_expired',
    jsonb_build_object('run', run, 'at', clock_timestamp()))
WHERE id IN (
    SELECT id FROM jobs
    WHERE kind = 'audio_analysis' AND finished_at IS NOT NULL AND result ? 'artifacts'
        AND finished_at < clock_timestamp() - make_interval(secs => :keep)
        AND (metadata -> 'artifacts_expired' ->> 'run' IS DISTINCT FROM run::text
            OR (metadata -> 'artifacts_expired' ->> 'at')::timestamptz
                < clock_timestamp() - make_interval(secs => :again))
    ORDER BY finished_at LIMIT :most FOR UPDATE SKIP LOCKED
)
RETURNING id, run, finished_at + (clock_timestamp() - finished_at) / 2
""")
_DONE: Final = text("""
UPDATE jobs SET result = result - 'artifacts'
WHERE id = :id AND run = :run AND metadata -> 'artifacts_expired' ->> 'run' = run::text
""")
_COPIES: Final = text("""
SELECT job_id, run, answered_at + (clock_timestamp() - answered_at) / 2 FROM shadow_runs
WHERE result ? 'artifacts' AND (same IS NOT NULL OR differences IS NOT NULL)
    AND answered_at < clock_timestamp() - make_interval(secs => :keep)
ORDER BY answered_at LIMIT :most
""")
_COPY_DONE: Final = text("""
UPDATE shadow_runs SET result = result - 'artifacts' WHERE job_id = :id AND run = :run
""")


@dataclass(frozen=True)
class _Stored:
    """Something whose objects go; what is not older than `before` is another run's."""

    id: str
    run: int
    before: datetime


class Expiring:
    """Removes artefacts of results, and of the copies that were sent to compare."""

    def __init__(
        self,
        database: Database,
        client: "S3Client",
        breaker: CircuitBreaker,
        *,
        bucket: str,
        keep: timedelta | None,
        keep_copies: timedelta,
    ) -> None:
        """Make it.

        Args:
            database: where the jobs are.
            client: calls S3.
            breaker: of S3.
            bucket: of the results.
            keep: artefacts for so long after the job's end; None: as long as the job.
            keep_copies: those of a copy for so long after it was answered and compared.
        """
        self._database = database
        self._client = client
        self._breaker = breaker
        self._bucket = bucket
        self._keep = keep
        self._keep_copies = keep_copies

    def run(self, shift: Shift) -> dict[str, JsonValue]:
        """Remove what is due, and return of how many jobs and copies."""
        return {"jobs": self._jobs(shift), "copies": self._copies(shift)}

    def _jobs(self, shift: Shift) -> int:
        done = 0
        while self._keep is not None and self._may_go_on(shift):
            asked = {
                "keep": self._keep.total_seconds(),
                "again": _MARK_SECONDS,
                "most": _MOST,
            }
            with self._database.begin() as session:
                marked = [_Stored(*row) for row in session.execute(_MARK, asked)]
            for stored in marked:
                if self._removed(stored, stored.id):
                    with self._database.begin() as session:
                        session.execute(_DONE, {"id": stored.id, "run": stored.run})
                    done += 1
            if len(marked) < _MOST:
                break
        return done

    def _copies(self, shift: Shift) -> int:
        done = 0
        while self._may_go_on(shift):
            asked = {"keep": self._keep_copies.total_seconds(), "most": _MOST}
            with self._database.begin() as session:
                found = [_Stored(*row) for row in session.execute(_COPIES, asked)]
            removed = 0
            for stored in found:
                if self._removed(stored, stored.id + SHADOW_SUFFIX):
                    with self._database.begin() as session:
                        session.execute(_COPY_DONE, {"id": stored.id, "run": stored.run})
                    removed += 1
            done += removed
            if removed < _MOST:
                break
        return done

    def _may_go_on(self, shift: Shift) -> bool:
        return not shift.is_over() and self._breaker.seconds_left <= 0

    def _removed(self, stored: _Stored, name: str) -> bool:
        try:
            remove_results(self._client, self._bucket, name, before=stored.before)
        except UnavailableError:
            log.warning("cleaning.expiry_postponed", job_id=stored.id)
            return False
        return True
