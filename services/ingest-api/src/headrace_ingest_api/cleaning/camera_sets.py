"""What purged camera jobs have in Swift, which only the gpu-preprocessors can reach.

They are told of each job by the sorted set of jobs that have ended, and say when nothing of it is
left. A Redis that was flushed meanwhile knows neither: the job is told again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import redis
import structlog
from pydantic import ValidationError

from headrace_common.contracts.cctv import PURGED_SUFFIX, SETTLED_SUFFIX, SettledJob

if TYPE_CHECKING:
    from headrace_ingest_api.cleaning.purge import Marked

log = structlog.get_logger()

#: A job that is not heard of is told again after that.
AGAIN_SECONDS: Final = 600.0


class CameraSets:
    """Has them removed."""

    def __init__(
        self, client: redis.Redis, *, stream: str, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        """Tell of jobs of `stream`; of one that is not heard of again after `again_seconds`."""
        self._client = client
        self._settled = f"{stream}{SETTLED_SUFFIX}"
        self._purged = f"{stream}{PURGED_SUFFIX}"
        self._told = 0
        self.again_seconds = again_seconds

    def tell(self, jobs: Sequence["Marked"]) -> list["Marked"]:
        """Have the sets of jobs be removed; return those of which there can be none.

        Raises:
            redis.RedisError: Redis is away.
        """
        told = {job.id: _settled(job) for job in jobs}
        members: dict[Any, float] = {
            settled.model_dump_json(): 0 for settled in told.values() if settled is not None
        }
        if members:
            self._client.zadd(self._settled, members, nx=True)
            self._told += len(members)
        return [job for job in jobs if told[job.id] is None]

    def without_sets(self, *, most: int) -> list[str]:
        """Return the ids of so many jobs of which nothing is left, those that are so for longest.

        Raises:
            redis.RedisError: Redis is away.
        """
        ids: Any = self._client.zrange(self._purged, 0, most - 1)
        return [job_id.decode(errors="replace") for job_id in ids]

    def forget(self, job_ids: Sequence[str]) -> None:
        """Forget jobs whose rows are removed.

        Raises:
            redis.RedisError: Redis is away; a later round does it.
        """
        if job_ids:
            self._client.zrem(self._purged, *job_ids)

    def told(self) -> int:
        """Return how many jobs were told of since the last time this was asked."""
        told, self._told = self._told, 0
        return told


def _settled(job: "Marked") -> SettledJob | None:
    """Return what the gpu-preprocessors are told; None of a job that they cannot have had."""
    folder = (job.result or {}).get("folder")
    try:
        return SettledJob(
            job_id=job.id,
            cctv_id=job.input.get("cctv_id"),
            run=job.run,
            folder=folder if isinstance(folder, str) else None,
            purged=True,
        )
    except ValidationError as error:
        log.info("cleaning.camera_unknown", job_id=job.id, faults=error.error_count())
        return None
