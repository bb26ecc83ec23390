"""Direct uploads from their creation to the last URL; `completion` does the rest."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from headrace_common.contracts.jobs import DIRECT_UPLOAD_EXPIRES_AT, JobStatus
from headrace_common.db import DirectUpload
from headrace_common.errors import HeadraceError, UnavailableError, UnprocessableError
from headrace_common.jobs import Change
from headrace_common.storage import S3Location
from headrace_ingest_api.begin import DELAY, RUN_AT, clock_of
from headrace_ingest_api.cleaning.removal import remove
from headrace_ingest_api.decisions import failure_of
from headrace_ingest_api.direct.bucket import DirectBucket
from headrace_ingest_api.direct.declared import declared
from headrace_ingest_api.direct.errors import NotBegunError
from headrace_ingest_api.direct.layout import Comparison, Layout, compare
from headrace_ingest_api.direct.rows import DirectRows, Found
from headrace_ingest_api.direct.wire import (
    DirectUploadState,
    DirectUploadView,
    NewDirectUpload,
    OpenedDirectUpload,
    PartUrl,
    PartView,
    PartWish,
)
from headrace_ingest_api.errors import UploadOvertakenError, UploadTooLargeError
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys
from headrace_ingest_api.jobs import Recording, UploadJobs, new_job
from headrace_ingest_api.metrics import DIRECT_UPLOADS
from headrace_ingest_api.naming import display_name, recording_key
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.tokens import find_token
from headrace_ingest_api.watch import overtaken

log = structlog.get_logger()

#: URLs that come with the answer to a new upload.
_FIRST_URLS: Final = 10


@dataclass(frozen=True)
class DirectWish:
    """What a client asks for."""

    token_id: str
    new: NewDirectUpload
    idempotency_key: str | None
    key_id: str | None

    @property
    def fingerprint(self) -> str:
        """What a repetition of the request has to equal."""
        told = self.new.model_dump(mode="json", exclude={RUN_AT, DELAY})
        # Without one it is as the version before made it.
        text = json.dumps([self.token_id, told | self.new.begin.to_remember()])
        return hashlib.sha256(text.encode()).hexdigest()

    def claim(self, job_id: str) -> Claim | None:
        """Return the claim on the idempotency key, if there is one."""
        if self.idempotency_key is None:
            return None
        return Claim(f"{self.key_id or 'anonymous'} direct-upload", self.idempotency_key, job_id)


class DirectUploads:
    """Opens, shows and aborts direct uploads. Every method blocks."""

    def __init__(
        self,
        resources: Resources,
        jobs: UploadJobs,
        keys: IdempotencyKeys,
        rows: DirectRows,
        bucket: DirectBucket,
    ) -> None:
        """Work with the process's resources."""
        self._resources = resources
        self._settings = resources.settings
        self._jobs = jobs
        self._keys = keys
        self._rows = rows
        self._bucket = bucket

    def open(self, wish: DirectWish) -> tuple[OpenedDirectUpload, bool]:
        """Create the job of a file that its client will send to S3.

        Returns:
            The upload with the first URLs, and whether an earlier request had created it.

        Raises:
            HeadraceError: whatever the client should know.
        """
        job_id = str(uuid7())
        recording = self._recording(wish, job_id)
        claim = wish.claim(job_id)
        if claim is not None and (stored := self._keys.claim(claim)) is not None:
            stored.check(wish.fingerprint)
            return self._opened(str(stored.response["job_id"])), True
        try:
            self._begin(wish, recording, claim)
        except BaseException:
            self._release(claim)
            raise
        DIRECT_UPLOADS.labels(outcome="begun").inc()
        return self._opened(job_id), False

    def view(self, job_id: str) -> DirectUploadView:
        """Show an upload and what S3 has of it.

        Raises:
            NotFoundError: there is none.
            StorageUnavailableError: S3 does not tell.
        """
        return self._view(self._rows.find(job_id))

    def urls(self, job_id: str, wishes: list[PartWish]) -> list[PartUrl]:
        """Sign the URLs of parts.

        Raises:
            NotFoundError: there is no such upload.
            UploadOvertakenError: it takes no parts any more.
            UnprocessableError: it has no such part.
        """
        found = self._rows.find(job_id)
        upload_id = _upload_id(found)
        for wish in wishes:
            if not found.layout.has(wish.number):
                raise UnprocessableError(f"the upload has {found.layout.count} parts only")
        return [self._sign(found, upload_id, wish) for wish in wishes]

    def abort(self, job_id: str) -> DirectUploadView:
        """End an upload and remove what S3 has of it; repeating it changes nothing.

        Raises:
            NotFoundError: there is none.
            UploadOvertakenError: its job was accepted.
        """
        found = self._rows.find(job_id)
        if found.was_accepted:
            raise overtaken(job_id, JobStatus(found.job.status), kept=True)
        change = Change(
            job_id=job_id,
            to=JobStatus.CANCELLED,
            message="The client gave the upload up",
            only_from=frozenset({JobStatus.UPLOADING}),
        )
        outcome = self._resources.store.apply([change])[0]
        if outcome.applied:
            DIRECT_UPLOADS.labels(outcome="aborted").inc()
        found = self._rows.find(job_id)
        if found.was_accepted:
            raise overtaken(job_id, outcome.status, kept=True)
        self._remove(found.location)
        return self._view(found)

    def _recording(self, wish: DirectWish, job_id: str) -> Recording:
        """Check the wish, and name what it will make."""
        most = self._settings.max_upload_bytes
        if wish.new.size > most:
            raise UploadTooLargeError(
                f"a recording may have {most} bytes at most", max_upload_bytes=most
            )
        if wish.new.sha256 is None and not self._settings.direct_upload_verify:
            raise UnprocessableError("sha256 must be told: this service does not hash the file")
        if (begin := wish.new.begin).is_later:
            now = clock_of(self._resources.database)
            begin.check(now=now, most=self._settings.max_run_delay)
        container = declared(wish.new.filename, wish.new.content_type)
        token = find_token(self._resources.database, wish.token_id)
        return Recording(
            job_id=job_id,
            token=token,
            lane=wish.new.priority,
            container=container,
            filename=display_name(wish.new.filename, container),
            location=S3Location(
                self._settings.s3_bucket, recording_key(job_id, container, datetime.now(UTC))
            ),
            created_by=wish.key_id,
        )

    def _begin(self, wish: DirectWish, recording: Recording, claim: Claim | None) -> None:
        self._resources.s3_breaker.check_waiting()
        job_id, location = recording.job_id, recording.location
        expires_at = datetime.now(UTC) + self._settings.direct_upload_lifetime
        job = new_job(
            recording,
            "Waiting for the client to send the recording to storage",
            **{DIRECT_UPLOAD_EXPIRES_AT: expires_at.isoformat()},
            **wish.new.begin.to_remember(),
        )
        layout = Layout.of(wish.new.size, part_bytes=self._settings.direct_upload_part_bytes)
        upload = DirectUpload(
            job_id=job_id,
            bucket=location.bucket,
            key=location.key,
            size=layout.size,
            part_bytes=layout.part_bytes,
            sha256=wish.new.sha256,
            expires_at=expires_at,
        )
        self._rows.create(job, upload, most_open=self._settings.max_open_direct_uploads)
        try:
            upload_id = self._bucket.begin(location, recording.container.media_type)
            self._rows.note_begun(job_id, upload_id, claim=claim, fingerprint=wish.fingerprint)
        except UploadOvertakenError:
            self._remove(location)
            raise
        except HeadraceError as error:
            error.extra.setdefault("job_id", job_id)
            self._jobs.fail(job_id, failure_of(error))
            raise

    def _remove(self, location: S3Location) -> None:
        try:
            remove(self._resources.s3, location)
        except UnavailableError:
            log.warning("direct.not_removed", key=location.key)  # the sweep does it

    def _release(self, claim: Claim | None) -> None:
        if claim is None:
            return
        try:
            self._keys.release(claim)
        except SQLAlchemyError as error:
            log.warning("idempotency.not_released", error=str(error)[:500])  # it runs out

    def _opened(self, job_id: str) -> OpenedDirectUpload:
        found = self._rows.find(job_id)
        view = self._view(found)
        urls: list[PartUrl] = []
        if view.state is DirectUploadState.OPEN:
            upload_id = _upload_id(found)
            urls = [
                self._sign(found, upload_id, PartWish(number=number))
                for number in view.missing[:_FIRST_URLS]
            ]
        return OpenedDirectUpload(**view.model_dump(), urls=urls)

    def _view(self, found: Found) -> DirectUploadView:
        state, comparison = self._state(found)
        upload, job = found.upload, found.job
        return DirectUploadView(
            job_id=job.id,
            job_status=JobStatus(job.status),
            state=state,
            size=upload.size,
            part_bytes=upload.part_bytes,
            part_count=found.layout.count,
            sha256=upload.sha256,
            expires_at=upload.expires_at,
            parts=[PartView(**vars(part)) for part in comparison.parts.values()],
            missing=sorted([*comparison.missing, *comparison.wrong]),
        )

    def _state(self, found: Found) -> tuple[DirectUploadState, Comparison]:
        nothing = Comparison({}, [], [])
        if not found.is_open:
            ended = DirectUploadState.ENDED
            return (DirectUploadState.ACCEPTED if found.was_accepted else ended), nothing
        upload_id = found.upload.upload_id
        parts = self._bucket.parts(found.location, upload_id) if upload_id else []
        if parts is None and self._bucket.size(found.location) == found.upload.size:
            return DirectUploadState.STORED, nothing
        return DirectUploadState.OPEN, compare(found.layout, parts or [], {})

    def _sign(self, found: Found, upload_id: str, wish: PartWish) -> PartUrl:
        return self._bucket.sign(
            found.location,
            upload_id,
            wish.number,
            layout=found.layout,
            md5=wish.md5,
            until=found.upload.expires_at,
        )


def _upload_id(found: Found) -> str:
    """Return S3's id of an upload that takes parts.

    Raises:
        UploadOvertakenError: it takes none any more.
        NotBegunError: it does not take any yet.
    """
    if not found.is_open:
        status = JobStatus(found.job.status)
        raise overtaken(found.job.id, status, kept=found.was_accepted)
    if found.upload.upload_id is None:
        raise NotBegunError("the upload is being made; try again")
    return found.upload.upload_id
