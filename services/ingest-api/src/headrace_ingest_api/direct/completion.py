"""The end of a direct upload: its parts become the recording, which is checked and queued.

Every step may be repeated, by the same client or by several at once, and after a crash
between any two: S3 makes the object once, and the job leaves `uploading` once.
"""

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database
from headrace_common.errors import HeadraceError, UnavailableError
from headrace_common.storage import S3Location
from headrace_common.telemetry.trace import continue_trace, inside_trace, note_job
from headrace_ingest_api.answers import UploadAnswer, accepted_answer
from headrace_ingest_api.begin import Begin
from headrace_ingest_api.cleaning.removal import remove
from headrace_ingest_api.decisions import failure_of, recognised
from headrace_ingest_api.direct.bucket import DirectBucket
from headrace_ingest_api.direct.errors import (
    ChecksumMismatchError,
    NotBegunError,
    PartsMissingError,
)
from headrace_ingest_api.direct.layout import compare
from headrace_ingest_api.direct.rows import DirectRows, Found
from headrace_ingest_api.errors import UploadOvertakenError
from headrace_ingest_api.jobs import (
    JobToken,
    Recording,
    StoredRecording,
    UploadJobs,
)
from headrace_ingest_api.metrics import DIRECT_UPLOADS
from headrace_ingest_api.objects import ObjectMissingError
from headrace_ingest_api.probe import probe
from headrace_ingest_api.recognition import HEAD_BYTES
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.watch import overtaken

log = structlog.get_logger()

#: What a completion may take, checking a file of any size included.
_COMPLETING: Final = timedelta(hours=1)
#: Numbers of parts that an error names.
_NAMED_PARTS: Final = 100


class DirectCompletion:
    """Completes direct uploads, a few at a time."""

    def __init__(
        self, resources: Resources, jobs: UploadJobs, rows: DirectRows, bucket: DirectBucket
    ) -> None:
        """Work with the process's resources."""
        self._database: Database = resources.database
        self._s3 = resources.s3
        self._verify = resources.settings.direct_upload_verify
        self._jobs = jobs
        self._rows = rows
        self._bucket = bucket
        self._pool = ThreadPoolExecutor(
            resources.settings.direct_completions, thread_name_prefix="complete"
        )
        self._under_way: dict[str, asyncio.Future[UploadAnswer]] = {}

    async def complete(self, job_id: str, etags: dict[int, str]) -> UploadAnswer:
        """Complete an upload; it goes on when this caller goes away.

        Callers that ask for the same meanwhile get the same answer.

        Args:
            job_id: of the upload.
            etags: what the client says its parts have, by number.

        Raises:
            HeadraceError: whatever the client should know.
        """
        running = self._under_way.get(job_id)
        if running is None:
            loop = asyncio.get_running_loop()
            context = contextvars.copy_context()
            running = loop.run_in_executor(self._pool, context.run, self._counted, job_id, etags)
            self._under_way[job_id] = running
            running.add_done_callback(lambda _: self._under_way.pop(job_id, None))
        return await asyncio.shield(running)

    def close(self) -> None:
        """Let what runs finish; what waits is asked for again by its client."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _counted(self, job_id: str, etags: dict[int, str]) -> UploadAnswer:
        outcome = "internal_error"
        found: Found | None = None
        note_job(job_id)
        try:
            found = self._rows.find(job_id)
            # The job's trace began when the upload did; this request is linked to.
            with continue_trace(
                found.job.trace, "complete upload", kind=SpanKind.INTERNAL, job_id=job_id
            ):
                answer, is_new = self._complete(found, etags)
            outcome = "accepted" if is_new else "replayed"
        except HeadraceError as error:
            outcome = error.code
            error.extra.setdefault("job_id", job_id)
            raise
        except SQLAlchemyError:
            outcome = "database_error"
            raise
        finally:
            DIRECT_UPLOADS.labels(outcome=outcome).inc()
            with inside_trace(found.job.trace) if found is not None else nullcontext():
                log.info("direct.completion_ended", outcome=outcome, job_id=job_id)
        return answer

    def _complete(self, found: Found, etags: dict[int, str]) -> tuple[UploadAnswer, bool]:
        job_id = found.job.id
        if not found.is_open:
            return self._answer_again(found), False
        self._rows.give_time(job_id, _COMPLETING)
        try:
            self._assemble(found, etags)
            stored = self._checked(found)
        except PartsMissingError:
            raise
        except HeadraceError as error:
            if not error.retryable:
                self._refuse(found, error)
            raise
        try:
            answer = self._jobs.queue(stored, None)
        except UploadOvertakenError:
            return self._answer_again(self._rows.find(job_id)), False
        try:
            self._rows.note_completed(job_id)
        except SQLAlchemyError as error:
            log.warning("direct.not_noted_as_completed", error=str(error)[:500])  # the sweep does
        return answer, True

    def _answer_again(self, found: Found) -> UploadAnswer:
        if not found.was_accepted:
            raise overtaken(found.job.id, JobStatus(found.job.status))
        with self._database.begin() as session:
            return accepted_answer(session, found.job)

    def _assemble(self, found: Found, etags: dict[int, str]) -> None:
        """See that S3 has the object, whole.

        Raises:
            PartsMissingError: some parts must be sent first.
            ObjectMissingError: S3 has forgotten the upload.
        """
        location, upload_id = found.location, found.upload.upload_id
        if upload_id is None:
            raise NotBegunError("the upload is being made; try again")
        parts = self._bucket.parts(location, upload_id)
        if parts is not None:
            compared = compare(found.layout, parts, etags)
            if compared.missing or compared.wrong:
                raise _missing(compared.missing, compared.wrong)
            self._bucket.complete(location, upload_id, list(compared.parts.values()))
        if self._bucket.size(location) != found.upload.size:
            raise ObjectMissingError("the storage has forgotten this upload; begin a new one")

    def _checked(self, found: Found) -> StoredRecording:
        """Check what is in the object."""
        location, size = found.location, found.upload.size
        announced = found.upload.sha256
        sha256 = self._bucket.sha256(location, size) if self._verify or not announced else announced
        if announced is not None and sha256 != announced:
            raise ChecksumMismatchError(
                f"the file that came has the SHA-256 {sha256}; its upload was ended"
            )
        container = recognised(self._bucket.head(location, size, HEAD_BYTES))
        facts = probe(container, self._bucket.file(location, size))
        job = found.job
        recording = Recording(
            job_id=job.id,
            token=JobToken.of(job),
            lane=Lane(job.lane),
            container=container,
            filename=str(job.input["filename"]),
            location=location,
            created_by=job.created_by,
        )
        begin = Begin.remembered(job.input)
        return StoredRecording(recording, Lane(job.lane), size, sha256, facts, begin)

    def _refuse(self, found: Found, error: HeadraceError) -> None:
        """End the job whose file cannot be taken, and remove the file."""
        if self._jobs.fail(found.job.id, failure_of(error)):
            self._remove(found.location)

    def _remove(self, location: S3Location) -> None:
        try:
            remove(self._s3, location)
        except UnavailableError:
            log.warning("direct.not_removed", key=location.key)  # the sweep does it


def _missing(missing: list[int], wrong: list[int]) -> PartsMissingError:
    text = f"{len(missing)} parts are missing"
    if wrong:
        text += f", {len(wrong)} are not what was sent: {', '.join(map(str, wrong[:10]))}"
    return PartsMissingError(text, missing=missing[:_NAMED_PARTS], wrong=wrong[:_NAMED_PARTS])
