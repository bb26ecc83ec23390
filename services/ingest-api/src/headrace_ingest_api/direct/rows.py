"""The rows of direct uploads, each beside its job's. Every method is one transaction."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Database, DirectUpload, Job
from headrace_common.db.storable import is_storable
from headrace_common.errors import NotFoundError
from headrace_common.jobs import JobStore, NewJob
from headrace_common.storage import S3Location
from headrace_ingest_api.direct.errors import TooManyDirectUploadsError
from headrace_ingest_api.direct.layout import Layout
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys
from headrace_ingest_api.watch import overtaken


@dataclass(frozen=True)
class Found:
    """A direct upload and its job, as they were read."""

    upload: DirectUpload
    job: Job

    @property
    def location(self) -> S3Location:
        """Where the file goes."""
        return S3Location(self.upload.bucket, self.upload.key)

    @property
    def layout(self) -> Layout:
        """How it is cut."""
        return Layout(self.upload.size, self.upload.part_bytes)

    @property
    def is_open(self) -> bool:
        """Whether the job waits for its file."""
        return self.job.status == JobStatus.UPLOADING

    @property
    def was_accepted(self) -> bool:
        """Whether the job went on from there, whatever became of it later."""
        return not self.is_open and self.job.discard_at is None


class DirectRows:
    """Reads and writes them."""

    def __init__(self, database: Database, store: JobStore, keys: IdempotencyKeys) -> None:
        """Work on `database`."""
        self._database = database
        self._store = store
        self._keys = keys

    def create(self, new: NewJob, upload: DirectUpload, *, most_open: int) -> None:
        """Create the job and its upload.

        Raises:
            TooManyDirectUploadsError: the API key has `most_open` under way.
        """
        with self._database.begin() as session:
            _check_quota(session, new.created_by, most_open)
            event = self._store.create_in(session, new)
            session.add(upload)
        self._store.publish_events([event])

    def note_begun(
        self, job_id: str, upload_id: str, *, claim: Claim | None, fingerprint: str
    ) -> None:
        """Note the id that S3 gave, and with it the answer to repetitions of the request.

        Raises:
            UploadOvertakenError: the job ended meanwhile.
        """
        with self._database.begin() as session:
            status = session.scalar(select(Job.status).where(Job.id == job_id).with_for_update())
            if status != JobStatus.UPLOADING:
                raise overtaken(job_id, JobStatus(status) if status else JobStatus.FAILED)
            session.execute(
                update(DirectUpload)
                .where(DirectUpload.job_id == job_id)
                .values(upload_id=upload_id)
            )
            if claim is not None:
                self._keys.complete_in(session, claim, fingerprint, {"job_id": job_id})

    def find(self, job_id: str) -> Found:
        """Return a direct upload.

        Raises:
            NotFoundError: there is none of that job.
        """
        query = (
            select(DirectUpload, Job)
            .join(Job, Job.id == DirectUpload.job_id)
            .where(DirectUpload.job_id == job_id)
        )
        with self._database.begin() as session:
            row = session.execute(query).first() if is_storable(job_id) else None
        if row is None:
            raise NotFoundError(f"no direct upload {job_id[:100]!r}")
        return Found(row[0], row[1])

    def give_time(self, job_id: str, time: timedelta) -> None:
        """See that the upload does not expire within `time` from now."""
        soon: datetime = func.clock_timestamp() + time  # type: ignore[assignment]  # an expression
        with self._database.begin() as session:
            session.execute(
                update(DirectUpload)
                .where(DirectUpload.job_id == job_id)
                .values(expires_at=func.greatest(DirectUpload.expires_at, soon))
            )

    def note_completed(self, job_id: str) -> None:
        """Note that the job was accepted."""
        with self._database.begin() as session:
            session.execute(
                update(DirectUpload)
                .where(DirectUpload.job_id == job_id, DirectUpload.completed_at.is_(None))
                .values(completed_at=func.clock_timestamp())
            )


def _check_quota(session: Session, key_id: str | None, most: int) -> None:
    """Count the key's open uploads, with a lock so that no two requests count the same."""
    name = f"direct-uploads {key_id}"
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    count = session.scalar(
        select(func.count())
        .select_from(DirectUpload)
        .join(Job, Job.id == DirectUpload.job_id)
        .where(
            DirectUpload.completed_at.is_(None),
            DirectUpload.aborted_at.is_(None),
            Job.status == JobStatus.UPLOADING,
            Job.created_by.is_not_distinct_from(key_id),
        )
    )
    if (count or 0) >= most:
        raise TooManyDirectUploadsError(
            f"{most} direct uploads of this API key are under way; complete or abort one"
        )
