"""One delivery, from the moment it has a slot until it is settled."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
import structlog

from headrace_common.contracts.cctv import (
    CctvResult,
    MalformedEntryError,
    PreprocessEntry,
    SettledJob,
)
from headrace_common.errors import HeadraceError
from headrace_common.telemetry.messaging import MessagingSystem, processing
from headrace_common.telemetry.trace import fail_span, note_error, trace_of_job
from headrace_gpu_preprocessor.admission import Admitted
from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.deliveries import Refusal
from headrace_gpu_preprocessor.stream.endings import Endings, Parts
from headrace_gpu_preprocessor.stream.entries import read_entry
from headrace_gpu_preprocessor.stream.errors import (
    JobCancelledError,
    LeaseLostError,
    StopRequestedError,
)
from headrace_gpu_preprocessor.stream.job import Handler, LeasedJob
from headrace_gpu_preprocessor.stream.plan import Bury, plan_delivery
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.settle import Settlement
from headrace_gpu_preprocessor.stream.slots import Work
from headrace_gpu_preprocessor.stream.threads import Ended, call_in_thread

log = structlog.get_logger()

Answer = TypeVar("Answer")

#: Kind of job, as the memory guard knows it.
JOB_KIND: Final = "preprocess"
_MEMORY_POLL_SECONDS: Final = 0.25
_BEGIN_RETRY_SECONDS: Final = 0.25


class DeliveryRunner:
    """Runs the handler for deliveries, and settles each."""

    def __init__(self, handler: Handler, settings: StreamSettings, parts: Parts) -> None:
        """Run `handler`, in a thread for each job."""
        self._handler = handler
        self._settings = settings
        self._store = parts.store
        self._keeper = parts.keeper
        self._guard = parts.guard
        self._gate = parts.gate
        self._reporter = parts.reporter
        self._make = parts.make
        self._remover = parts.remover
        self._endings = Endings(settings, parts)
        #: Set when there is no time left: what runs is handed back, whatever it does.
        self.give_up = self._endings.give_up

    async def run(self, work: Work) -> None:
        """Work on a delivery until it is settled, or somebody else's."""
        try:
            await self._keeper.confirm(work.lease)
            await self._begin(work)
        except LeaseLostError as error:
            log.info("stream.dropped", entry_id=work.lease.hold.entry_id, reason=error.detail)
        finally:
            self._reporter.end(work.lease.hold.entry_id)
            self._keeper.release(work.lease)

    async def _begin(self, work: Work) -> None:
        hold, fields = work.delivery.hold, work.delivery.fields
        try:
            entry = read_entry(fields)
        except MalformedEntryError as error:
            bury = Bury(error.code, error.detail)
            await self._endings.bury(work, bury, self._make.unreadable(fields, hold, bury))
            return
        refused = plan_delivery(hold.delivery, max_deliveries=self._settings.redis_max_deliveries)
        with processing(
            entry.trace or trace_of_job(entry.job_id),
            MessagingSystem.STREAM,
            self._settings.redis_stream,
            message_id=hold.entry_id,
            sent_ms=int(hold.entry_id.partition("-")[0]),
            group=self._settings.redis_group,
            job_id=entry.job_id,
            attempt=entry.attempt,
            delivery=hold.delivery,
        ):
            if refused is None:
                await self._work(work, entry)
            else:
                fail_span(refused.reason)
                await self._endings.bury(work, refused, self._make.failed(entry, hold, refused))

    async def _work(self, work: Work, entry: PreprocessEntry) -> None:
        job = LeasedJob(entry, work.lease, stopping=work.stopping, on_progress=self._reporter.offer)
        refusal = await self._refusal(work, entry)
        if refusal is Refusal.DUPLICATE:
            return
        work.job = job
        if refusal is Refusal.CANCELLED:
            job.cancelled.set()
        elif refusal is Refusal.PAUSED:
            await self._endings.hand_back(work)
            return
        admitted = await self._admitted(work, job)
        if admitted is None:
            await (
                self._cancel(work, job) if job.cancelled.is_set() else self._endings.hand_back(work)
            )
            return
        with admitted:
            self._reporter.begin(job)
            job.begin()
            log.info(
                "stream.job_started", cctv_id=entry.cctv_id, attempt=entry.attempt, slot=work.slot
            )
            ended = await self._call(job, lambda: self._handler(job))
        self._reporter.end(job.entry_id)
        outcome = await self._settle(work, job, ended)
        if outcome == Settlement.LOST:
            await self._endings.suspect(job)
        metrics.JOB_SECONDS.labels(outcome=outcome).observe(job.seconds)
        log.info("stream.job_ended", outcome=outcome, seconds=round(job.seconds, 2))

    async def _refusal(self, work: Work, entry: PreprocessEntry) -> Refusal | None:
        """Ask whether the work may begin; a duplicate is acknowledged then.

        Raises:
            LeaseLostError: the entry is another's, or Redis was away until it could be.
        """
        hold = work.delivery.hold
        while True:
            work.lease.check()
            try:
                refusal = await self._store.begin(hold, entry.job_id, run=entry.job_run)
            except (redis.RedisError, OSError) as error:
                log.warning("stream.begin_delayed", entry_id=hold.entry_id, error=str(error))
                await asyncio.sleep(_BEGIN_RETRY_SECONDS)
                continue
            if refusal is not None:
                log.info("stream.not_begun", entry_id=hold.entry_id, reason=refusal.value)
            if refusal is Refusal.DUPLICATE:
                metrics.DUPLICATES.inc()
            return refusal

    async def _admitted(self, work: Work, job: LeasedJob) -> Admitted | None:
        """Wait for memory: there was room before the entry was read, and may be none now.

        Returns:
            None if the job is cancelled, or should be handed back instead.
        """
        while not (work.stopping.is_set() or self._gate.is_closed or job.cancelled.is_set()):
            if admitted := self._guard.try_admit(JOB_KIND):
                return admitted
            work.lease.check()
            await asyncio.sleep(_MEMORY_POLL_SECONDS)
        return None

    async def _call(self, job: LeasedJob, do: Callable[[], Answer]) -> Ended[Answer]:
        """Do something for a job in a thread; when there is no time left, go on without it."""
        running = call_in_thread(f"job-{job.entry_id}", do)
        giving_up = asyncio.ensure_future(self.give_up.wait())
        either: set[asyncio.Future[Any]] = {running, giving_up}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            giving_up.cancel()
        if running.done():
            return running.result()
        log.error("stream.job_left_behind", stage=job.now.stage)
        return Ended(None, StopRequestedError("did not stop in time"))

    async def _settle(self, work: Work, job: LeasedJob, ended: Ended[CctvResult]) -> str:
        """Settle a delivery whose handler ended; return how, for metrics and logs."""
        entry = job.entry
        if (gone := await self._given_back(work, ended)) is not None:
            return gone
        if job.cancelled.is_set() or isinstance(ended.error, JobCancelledError):
            return await self._cancel(work, job)
        if ended.error is not None:
            note_error(ended.error)
            return await self._endings.failed(work, entry, ended.error)
        if ended.answer is None:
            return await self._endings.failed(
                work, entry, TypeError("the handler returned no result")
            )
        return await self._endings.completed(work, entry, ended.answer)

    async def _given_back(self, work: Work, ended: Ended[Answer]) -> str | None:
        """Hand back what had to stop, drop what is another's; None for what did neither."""
        if isinstance(ended.error, StopRequestedError):
            await self._endings.hand_back(work)
            return "handed_back"
        if isinstance(ended.error, LeaseLostError):
            log.warning("stream.lease_lost_at_work", reason=ended.error.detail)
            return str(Settlement.LOST)
        return None

    async def _cancel(self, work: Work, job: LeasedJob) -> str:
        """Remove what a cancelled job has stored, in earlier attempts too, and acknowledge it."""
        entry = job.entry
        if self._remover is not None:
            remove, whose = self._remover, _nothing_kept(entry)
            ended = await self._call(job, lambda: remove(whose, job.check_held))
            if (gone := await self._given_back(work, ended)) is not None:
                return gone
            if isinstance(ended.error, HeadraceError) and ended.error.systemic:
                return await self._endings.hold(work, ended.error)
            if ended.error is not None:
                # It is removed later, as what every job left that has ended.
                log.warning("stream.remains_stay", error=str(ended.error)[:500])
        return await self._endings.cancelled(work, entry)


def _nothing_kept(entry: PreprocessEntry) -> SettledJob:
    """Return the run of a job of which nothing is to be kept."""
    return SettledJob(job_id=entry.job_id, cctv_id=entry.cctv_id, run=entry.job_run, folder=None)
