"""What purged camera jobs have in Swift, which only the gpu-preprocessors can reach.

They are told of each job by the sorted set of jobs that have ended, and say when nothing of it is
left. A Redis that was flushed meanwhile knows neither: the job is told again.
"""

import time
from collections.abc import Iterable, Sequence
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
#: What was said of jobs that nobody asks for any more is forgotten.
_FORGET_SECONDS: Final = 7 * 86_400.0


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

    def without_sets(self, jobs: Sequence["Marked"]) -> list["Marked"]:
        """Return those of which Swift has nothing, and tell of the others.

        Raises:
            redis.RedisError: Redis is away.
        """
        if not jobs:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.zscore(self._purged, job.id)
            scores: list[Any] = pipeline.execute()
        members: dict[Any, float] = {}
        gone = []
        for job, score in zip(jobs, scores, strict=True):
            settled = _settled(job) if score is None else None
            if settled is None:
                gone.append(job)
            else:
                members[settled.model_dump_json()] = 0
        if members:
            self._client.zadd(self._settled, members, nx=True)
            self._told += len(members)
        return gone

    def forget(self, job_ids: Iterable[str]) -> None:
        """Forget jobs whose rows are removed.

        Raises:
            redis.RedisError: Redis is away; they are forgotten some days later.
        """
        ids = list(job_ids)
        if ids:
            self._client.zrem(self._purged, *ids)
        old_ms = (time.time() - _FORGET_SECONDS) * 1_000
        self._client.zremrangebyscore(self._purged, "-inf", old_ms)

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
