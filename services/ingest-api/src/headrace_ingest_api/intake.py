"""One upload from its first byte to its answer.

Whatever goes wrong on the way, the client learns it, the job says it, and S3 keeps nothing.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from uuid_utils.compat import uuid7

from headrace_common.errors import HeadraceError, UnavailableError
from headrace_common.storage import S3Location
from headrace_ingest_api.answers import UploadAnswer
from headrace_ingest_api.begin import Begin, choose_begin, clock_of
from headrace_ingest_api.body import Patience, announced_size, receive
from headrace_ingest_api.decisions import UploadWish, choose_lane, failure_of, recognised
from headrace_ingest_api.errors import (
    UploadOvertakenError,
    UploadTooLargeError,
)
from headrace_ingest_api.idempotency import Claim, IdempotencyKeys, StoredAnswer, fingerprint
from headrace_ingest_api.jobs import Recording, StoredRecording, UploadJobs
from headrace_ingest_api.metrics import UPLOAD_BYTES, UPLOADS_IN_FLIGHT
from headrace_ingest_api.multipart import MAX_ENVELOPE_BYTES, UploadForm, boundary_of
from headrace_ingest_api.naming import display_name, recording_key
from headrace_ingest_api.objects import ObjectMissingError, ObjectWriter, PartPlan
from headrace_ingest_api.probe import AudioFacts, probe
from headrace_ingest_api.ranged import BytesFile, S3File
from headrace_ingest_api.recognition import HEAD_BYTES
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.tokens import TokenView, find_token
from headrace_ingest_api.watch import UploadWatch

log = structlog.get_logger()


@dataclass(frozen=True)
class Received:
    """A file that came in whole."""

    size: int
    sha256: str


class UploadIntake:
    """Takes uploads, as many at a time as the settings allow."""

    def __init__(self, resources: Resources) -> None:
        """Work with the process's resources."""
        self._resources = resources
        self._settings = resources.settings
        self.keys = IdempotencyKeys(
            resources.database, keep=resources.settings.idempotency_key_lifetime
        )
        self._jobs = UploadJobs(resources, self.keys)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._cleaning: set[asyncio.Task[None]] = set()

    async def take(self, request: Request, wish: UploadWish) -> tuple[UploadAnswer, bool]:
        """Take one upload.

        Returns:
            The answer, and whether it is the repetition of an earlier one.

        Raises:
            HeadraceError: whatever the client should know.
            ClientGoneError: nobody is there to be told.
        """
        announced = announced_size(request) or 0
        if announced > self._settings.max_upload_bytes + MAX_ENVELOPE_BYTES:
            raise self._too_large()
        boundary = boundary_of(request.headers.get("content-type"))
        with self._place():
            self._resources.s3_breaker.check_waiting()
            token = await run_in_threadpool(find_token, self._resources.database, wish.token_id)
            body = receive(
                request,
                patience=Patience(
                    self._settings.upload_stall_seconds, self._settings.upload_min_bytes_per_second
                ),
                most_bytes=self._settings.max_upload_bytes + MAX_ENVELOPE_BYTES,
                refusal=self._too_large(),
            )
            return await self._once(UploadForm(body, boundary), wish, token)

    async def finish(self) -> None:
        """Wait, at the stop, until uploads that were cancelled have put everything away."""
        while work := self._under_way | self._cleaning:
            await asyncio.wait(work)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold one of the places for uploads."""
        if len(self._under_way) >= self._settings.max_concurrent_uploads:
            raise UnavailableError("as many uploads as may be are under way; try again")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - called from a coroutine
        self._under_way.add(task)
        UPLOADS_IN_FLIGHT.inc()
        try:
            yield
        finally:
            self._under_way.discard(task)
            UPLOADS_IN_FLIGHT.dec()

    async def _once(
        self, form: UploadForm, wish: UploadWish, token: TokenView
    ) -> tuple[UploadAnswer, bool]:
        """Do it, unless the idempotency key says that it was done."""
        job_id = str(uuid7())
        claim = wish.claim(job_id)
        if claim is None:
            return await self._new(form, wish, token, job_id, None), False
        stored = await run_in_threadpool(self.keys.claim, claim)
        if stored is not None:
            return await self._repeated(form, wish, stored), True
        try:
            return await self._new(form, wish, token, job_id, claim), False
        except BaseException:
            await self._after_failure(self._release(claim))
            raise

    async def _release(self, claim: Claim) -> None:
        try:
            await run_in_threadpool(self.keys.release, claim)
        except SQLAlchemyError as error:
            log.warning("idempotency.not_released", error=str(error)[:500])  # it runs out

    async def _repeated(
        self, form: UploadForm, wish: UploadWish, stored: StoredAnswer
    ) -> UploadAnswer:
        """Compare a repetition with the first request, without storing it."""
        await form.file_head(1)
        received = await self._receive(form, None, None)
        stored.check(
            fingerprint(
                token_id=wish.token_id,
                lane=choose_lane(wish.priority, form.fields),
                file_sha256=received.sha256,
                begin=choose_begin(wish.begin, form.fields),
            )
        )
        return UploadAnswer.model_validate(stored.response)

    async def _new(
        self,
        form: UploadForm,
        wish: UploadWish,
        token: TokenView,
        job_id: str,
        claim: Claim | None,
    ) -> UploadAnswer:
        head = await form.file_head(HEAD_BYTES)
        container = recognised(head)
        await self._chosen_begin(form, wish)
        recording = Recording(
            job_id=job_id,
            token=token,
            lane=choose_lane(wish.priority, form.fields),
            container=container,
            filename=display_name(form.filename, container),
            location=S3Location(
                self._settings.s3_bucket, recording_key(job_id, container, datetime.now(UTC))
            ),
            created_by=wish.key_id,
        )
        structlog.contextvars.bind_contextvars(job_id=job_id)
        await run_in_threadpool(self._jobs.create, recording)
        writer, may_be_accepted = self._writer(recording), False
        try:
            stored = await self._store(form, wish, recording, writer, claim)
            # Its thread goes on where this request is cancelled.
            may_be_accepted = True
            return await run_in_threadpool(self._jobs.queue, stored, claim)
        except BaseException as error:
            if isinstance(error, HeadraceError):
                error.extra.setdefault("job_id", job_id)
            await self._after_failure(
                self._undo(job_id, writer, error, may_be_accepted=may_be_accepted)
            )
            raise

    async def _store(
        self,
        form: UploadForm,
        wish: UploadWish,
        recording: Recording,
        writer: ObjectWriter,
        claim: Claim | None,
    ) -> StoredRecording:
        watch = UploadWatch(
            self._resources.database,
            self._resources.store,
            self.keys,
            job_id=recording.job_id,
            claim=claim,
        )
        try:
            async with watch.watching():
                received = await self._receive(form, writer, watch)
                lane = choose_lane(wish.priority, form.fields)
                begin = await self._chosen_begin(form, wish)
                facts = await self._finish(recording, writer, received)
        except ObjectMissingError:
            # The sweep removes the parts of a job that was cancelled; that is what to tell.
            await run_in_threadpool(watch.look)
            watch.check()
            raise
        return StoredRecording(recording, lane, received.size, received.sha256, facts, begin)

    async def _chosen_begin(self, form: UploadForm, wish: UploadWish) -> Begin:
        """Return when the job begins by what is known of the form, if that is not too far off."""
        begin = choose_begin(wish.begin, form.fields)
        if begin.is_later:
            now = await run_in_threadpool(clock_of, self._resources.database)
            begin.check(now=now, most=self._settings.max_run_delay)
        return begin

    async def _receive(
        self, form: UploadForm, writer: ObjectWriter | None, watch: UploadWatch | None
    ) -> Received:
        """Read the file to its end, hash it, and hand it on to `writer`."""
        digest, size = hashlib.sha256(), 0
        async for chunk in form.file_chunks():
            size += len(chunk)
            UPLOAD_BYTES.inc(len(chunk))
            if size > self._settings.max_upload_bytes:
                raise self._too_large()
            digest.update(chunk)
            if watch is not None:
                watch.received = size
                watch.check()
            if writer is not None:
                await writer.write(chunk)
        return Received(size, digest.hexdigest())

    async def _finish(
        self, recording: Recording, writer: ObjectWriter, received: Received
    ) -> AudioFacts:
        """Make the object appear, and check what is in it; a small file before it goes up."""
        whole = writer.buffered_whole
        if whole is not None:
            facts = await run_in_threadpool(probe, recording.container, BytesFile(whole))
            await writer.finish()
            return facts
        await writer.finish()
        stored = S3File(self._resources.s3, recording.location, received.size)
        return await self._resources.s3_threads.run(probe, recording.container, stored)

    async def _undo(
        self, job_id: str, writer: ObjectWriter, error: BaseException, *, may_be_accepted: bool
    ) -> None:
        """Say in the job why its upload failed, and leave nothing of it in S3."""
        if not isinstance(error, UploadOvertakenError):
            is_refused = await run_in_threadpool(self._jobs.fail, job_id, failure_of(error))
            if is_refused is False:
                # The commit that accepted the job did arrive: its recording is needed.
                log.warning("upload.accepted_all_the_same", job_id=job_id)
                return
            refused_before_its_commit = isinstance(error, SQLAlchemyError)
            if is_refused is None and may_be_accepted and not refused_before_its_commit:
                # It may have arrived. A file too many is cleaned up, one too few is a lost job.
                log.warning("upload.acceptance_unknown", job_id=job_id)
                return
        await writer.discard()

    async def _after_failure(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end, also when this request is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        await asyncio.shield(task)

    def _writer(self, recording: Recording) -> ObjectWriter:
        return ObjectWriter(
            self._resources.s3,
            self._resources.s3_threads,
            recording.location,
            content_type=recording.container.media_type,
            plan=PartPlan(self._settings.part_bytes, self._settings.upload_parts_in_flight),
        )

    def _too_large(self) -> UploadTooLargeError:
        limit = self._settings.max_upload_bytes
        return UploadTooLargeError(
            f"a recording may have {limit} bytes at most", max_upload_bytes=limit
        )
