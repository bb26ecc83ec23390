"""The house-keeping of the ingest API: it keeps S3 clean, told by the built-in schedules."""

from typing import Final

from pydantic import JsonValue

from headrace_common.chores import ChoreWorker
from headrace_common.contracts.schedules import (
    ABORT_UPLOADS,
    EXPIRE_RESULTS,
    PURGE_JOBS,
    SEARCH_STORAGE,
)
from headrace_common.shifts import Shift
from headrace_ingest_api.cleaning.camera_sets import CameraSets
from headrace_ingest_api.cleaning.discards import Discards
from headrace_ingest_api.cleaning.expiring import Expiring
from headrace_ingest_api.cleaning.expiry import Expiry
from headrace_ingest_api.cleaning.orphans import OrphanSearch
from headrace_ingest_api.cleaning.purge import Purge
from headrace_ingest_api.resources import Resources

#: What a chore under way gets to come to its end, once uploads have.
_GRACE_SECONDS: Final = 5.0


class HouseKeeping:
    """Puts the parts together."""

    def __init__(self, resources: Resources) -> None:
        """Prepare; nothing happens before `start`."""
        settings = resources.settings
        self._expiry = Expiry(resources.database, resources.store)
        self._discards = Discards(
            resources.database,
            resources.s3,
            resources.s3_breaker,
            bucket=settings.s3_bucket,
            retry_seconds=settings.storage_discard_retry_seconds,
        )
        self._orphans = OrphanSearch(
            resources.database,
            resources.s3,
            settings.s3_bucket,
            days=settings.storage_scan_days,
            unknown_after=settings.storage_orphan_age,
        )
        self.purge = Purge(
            resources.database,
            resources.s3,
            resources.s3_breaker,
            CameraSets(resources.redis, stream=settings.redis_stream),
            bucket=settings.s3_bucket,
            retry_seconds=settings.storage_discard_retry_seconds,
        )
        self.expiring = Expiring(
            resources.database,
            resources.s3,
            resources.s3_breaker,
            bucket=settings.s3_bucket,
            keep=settings.result_retention,
            keep_copies=settings.shadow_retention,
        )
        self._worker = ChoreWorker(
            settings,
            resources.database,
            {
                ABORT_UPLOADS: self.abort_uploads,
                SEARCH_STORAGE: self.search_storage,
                PURGE_JOBS: self.purge.run,
                EXPIRE_RESULTS: self.expiring.run,
            },
        )

    def start(self) -> None:
        """Start performing."""
        self._worker.start()

    def check(self) -> None:
        """Check that every thread lives.

        Raises:
            RuntimeError: one does not.
        """
        self._worker.check()

    def ask_to_stop(self) -> None:
        """Let what is under way come to its end soon."""
        self._worker.ask_to_stop()

    def stop(self) -> None:
        """Finish what is under way, and close the connections."""
        self._worker.stop(grace_seconds=_GRACE_SECONDS)

    def abort_uploads(self, shift: Shift) -> dict[str, JsonValue]:
        """End uploads that nobody completes, and remove what ended ones left."""
        return {"expired": self._expiry.run(shift), "discarded": self._discards.run(shift)}

    def search_storage(self, shift: Shift) -> dict[str, JsonValue]:
        """Search for what belongs to no job."""
        return self._orphans.run(shift)
