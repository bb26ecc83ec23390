"""What lies in S3 and belongs to no job: found by listing the folders of the last days.

What a row says was never accepted goes at once: a process that was frozen while its job ended,
and thawed, may have written it.

Nothing makes an object or a multipart upload before its job's row is there. So whatever no row
knows comes from a database that lost rows, or from another installation, and may be the last
that there is of a recording which was accepted: it is counted, and stays unless an operator has
said at which age it may go.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import JsonValue
from sqlalchemy import select

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Database, Job
from headrace_common.shifts import Shift
from headrace_ingest_api.metrics import ORPHAN_BYTES, ORPHANS, STORAGE_SCANNED, UNKNOWN
from headrace_ingest_api.naming import job_of_key, recordings_folder
from headrace_ingest_api.objects import ObjectMissingError, storage_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

#: Advisory lock of whoever searches: "orphan" in hex.
_LOCK: Final = 0x6F727068616E
#: A searcher that is silent for so long, frozen for instance, loses the lock.
_SILENT_SECONDS: Final = 120.0


class FoundKind(StrEnum):
    """What was found in S3."""

    OBJECT = "object"
    MULTIPART = "multipart"


@dataclass(frozen=True)
class Found:
    """Something in S3; `upload_id` of a multipart upload."""

    kind: FoundKind
    key: str
    since: datetime
    size: int = 0
    upload_id: str = ""


@dataclass(frozen=True)
class KnownJob:
    """What a job's row says: whether it waits for its file, and whether it never got it."""

    waits: bool
    was_discarded: bool


def orphan_reason(
    found: Found, job: KnownJob | None, *, now: datetime, unknown_after: timedelta | None
) -> str | None:
    """Return why something is to be removed; None if it is not.

    Args:
        found: in S3.
        job: that its name says, if there is such a row.
        now: aware.
        unknown_after: age of what no row knows; None: that stays.
    """
    if job is None:
        is_old = unknown_after is not None and now - found.since > unknown_after
        return "unknown" if is_old else None
    if job.waits:
        return None
    if found.kind is FoundKind.MULTIPART:
        # Its object is made, or never will be; S3 gave a second id for a request sent twice.
        return "discarded" if job.was_discarded else "leftover"
    return "discarded" if job.was_discarded else None


class OrphanSearch:
    """Searches S3, one replica at a time."""

    def __init__(
        self,
        database: Database,
        client: "S3Client",
        bucket: str,
        *,
        days: int,
        unknown_after: timedelta | None,
    ) -> None:
        """Search the folders of the last `days` days, 0: none.

        See `orphan_reason` for `unknown_after`.
        """
        self._database = database
        self._client = client
        self._bucket = bucket
        self._days = days
        self._unknown_after = unknown_after
        self._unknown = 0

    def run(self, shift: Shift) -> dict[str, JsonValue]:
        """Search once, unless somebody else does, and return what was found.

        It takes as long as it takes: the next one would begin at the beginning. A stop ends it.

        Raises:
            StorageUnavailableError: S3 does not answer; what was found before is removed.
        """
        with self._database.alone(_LOCK, silent_seconds=_SILENT_SECONDS) as sign_of_life:
            if sign_of_life is None:
                return {"under_way": True}
            self._unknown = removed = 0
            for day in self._last_days():
                if shift.is_stopped():
                    return {"removed": removed, "to_the_end": False}
                removed += self._searched(day, sign_of_life)
        STORAGE_SCANNED.set(time.time())
        UNKNOWN.set(self._unknown)
        log.info("cleaning.searched", days=self._days, removed=removed, unknown=self._unknown)
        return {"removed": removed, "unknown": self._unknown, "to_the_end": True}

    def _last_days(self) -> Iterator[datetime]:
        if not self._days:
            return
        today = datetime.now(UTC)
        for back in range(-1, self._days):  # tomorrow's too: clocks differ
            yield today - timedelta(days=back)

    def _searched(self, day: datetime, sign_of_life: Callable[[], None]) -> int:
        removed = 0
        for page in self._pages(recordings_folder(day)):
            sign_of_life()
            removed += sum(self._removed(found, reason) for found, reason in self._orphans(page))
        return removed

    def _pages(self, folder: str) -> Iterator[list[Found]]:
        objects = self._client.get_paginator("list_objects_v2")
        uploads = self._client.get_paginator("list_multipart_uploads")
        with storage_errors("search objects"):
            for page in objects.paginate(Bucket=self._bucket, Prefix=folder):
                yield [
                    Found(FoundKind.OBJECT, one["Key"], one["LastModified"], one["Size"])
                    for one in page.get("Contents", [])
                ]
        with storage_errors("search uploads"):
            for listed in uploads.paginate(Bucket=self._bucket, Prefix=folder):
                yield [
                    Found(
                        FoundKind.MULTIPART, one["Key"], one["Initiated"], upload_id=one["UploadId"]
                    )
                    for one in listed.get("Uploads", [])
                ]

    def _orphans(self, page: Iterable[Found]) -> Iterator[tuple[Found, str]]:
        ids = {found: job_of_key(found.key) for found in page}
        jobs = self._known(set(ids.values()))
        now = datetime.now(UTC)
        for found, job_id in ids.items():
            reason = orphan_reason(
                found, jobs.get(job_id), now=now, unknown_after=self._unknown_after
            )
            if reason is not None:
                yield found, reason
            elif job_id not in jobs:
                self._unknown += 1

    def _known(self, job_ids: set[str]) -> dict[str, KnownJob]:
        if not job_ids:
            return {}
        query = select(Job.id, Job.status, Job.discard_at).where(Job.id.in_(job_ids))
        with self._database.begin() as session:
            return {
                job_id: KnownJob(status == JobStatus.UPLOADING, discard_at is not None)
                for job_id, status, discard_at in session.execute(query)
            }

    def _removed(self, found: Found, reason: str) -> int:
        # What somebody else removes meanwhile is gone all the same.
        with suppress(ObjectMissingError), storage_errors("remove orphan"):
            if found.kind is FoundKind.MULTIPART:
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=found.key, UploadId=found.upload_id
                )
            else:
                self._client.delete_object(Bucket=self._bucket, Key=found.key)
        ORPHANS.labels(kind=found.kind.value, reason=reason).inc()
        ORPHAN_BYTES.inc(found.size)
        log.warning("cleaning.orphan_removed", kind=found.kind, key=found.key, reason=reason)
        return 1
