"""One delivery, from the moment it has a slot until it is settled."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from headrace_common.telemetry import continue_trace
from headrace_gpu_preprocessor.admission import Admitted, MemoryGuard
from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.deliveries import Refusal
from headrace_gpu_preprocessor.stream.entries import ReportMaker, dead_letter, read_entry
from headrace_gpu_preprocessor.stream.errors import (
    JobCancelledError,
    LeaseLostError,
    StopRequestedError,
)
from headrace_gpu_preprocessor.stream.gate import Gate
from headrace_gpu_preprocessor.stream.job import Handler, LeasedJob, Remover
from headrace_gpu_preprocessor.stream.leases import LeaseKeeper
from headrace_gpu_preprocessor.stream.metrics import Tally
from headrace_gpu_preprocessor.stream.plan import (
    Bury,
    Failure,
    RetryLimits,
    plan_delivery,
    plan_retry,
)
from headrace_gpu_preprocessor.stream.reporter import Reporter
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.settle import Settlement, settle
from headrace_gpu_preprocessor.stream.slots import Work
from headrace_gpu_preprocessor.stream.store import StreamStore
from headrace_gpu_preprocessor.stream.threads import Ended, call_in_thread

log = structlog.get_logger()

Answer = TypeVar("Answer")

#: Kind of job, as the memory guard knows it.
JOB_KIND: Final = "preprocess"
_MEMORY_POLL_SECONDS: Final = 0.25
_BEGIN_RETRY_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Parts:
    """What a runner works with.

    Attributes:
        remover: removes what a cancelled job has stored; None where jobs store nothing.
    """

    store: StreamStore
    keeper: LeaseKeeper
    guard: MemoryGuard
    gate: Gate
    reporter: Reporter
    make: ReportMaker
    tally: Tally
    remover: Remover | None = None


class DeliveryRunner:
    """Runs the handler for deliveries, and settles each."""

    def __init__(self, handler: Handler, settings: StreamSettings, parts: Parts) -> None:
        """Run `handler`, in a thread for each job."""
        self._handler = handler
        self._settings = settings
        self._limits = RetryLimits.of(settings)
        self._store = parts.store
        self._keeper = parts.keeper
        self._guard = parts.guard
        self._gate = parts.gate
        self._reporter = parts.reporter
        self._make = parts.make
        self._tally = parts.tally
        self._remover = parts.remover
        #: Set when there is no time left: what runs is handed back, whatever it does.
        self.give_up = asyncio.Event()

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
            await self._bury(work, bury, self._make.unreadable(fields, hold, bury))
            return
        refused = plan_delivery(hold.delivery, max_deliveries=self._settings.redis_max_deliveries)
        if refused is not None:
            await self._bury(work, refused, self._make.failed(entry, hold, refused))
            return
        with continue_trace(entry.trace, "preprocess", job_id=entry.job_id):
            await self._work(work, entry)

    async def _work(self, work: Work, entry: PreprocessEntry) -> None:
        job = LeasedJob(entry, work.lease, stopping=work.stopping, on_progress=self._reporter.offer)
        refusal = await self._refusal(work, entry)
        if refusal is Refusal.DUPLICATE:
            return
        work.job = job
        if refusal is Refusal.CANCELLED:
            job.cancelled.set()
        elif refusal is Refusal.PAUSED:
            await self._hand_back(work)
            return
        admitted = await self._admitted(work, job)
        if admitted is None:
            await (self._cancel(work, job) if job.cancelled.is_set() else self._hand_back(work))
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
            await self._suspect(job)
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
            return await self._fail(work, entry, ended.error)
        if ended.answer is None:
            return await self._fail(work, entry, TypeError("the handler returned no result"))
        report = self._make.completed(entry, work.delivery.hold, ended.answer)
        settled = await settle(
            lambda: self._store.finish(work.delivery.hold, report),
            give_up=self.give_up,
            what="finish",
        )
        if settled is Settlement.SETTLED:
            self._gate.open()
            self._tally.processed()
            return "completed"
        return str(settled)

    async def _given_back(self, work: Work, ended: Ended[Answer]) -> str | None:
        """Hand back what had to stop, drop what is another's; None for what did neither."""
        if isinstance(ended.error, StopRequestedError):
            await self._hand_back(work)
            return "handed_back"
        if isinstance(ended.error, LeaseLostError):
            log.warning("stream.lease_lost_at_work", reason=ended.error.detail)
            return str(Settlement.LOST)
        return None

    async def _cancel(self, work: Work, job: LeasedJob) -> str:
        """Remove what a cancelled job has stored, in earlier attempts too, and acknowledge it."""
        entry, hold = job.entry, work.delivery.hold
        if self._remover is not None:
            remove, whose = self._remover, _nothing_kept(entry)
            ended = await self._call(job, lambda: remove(whose, job.check_held))
            if (gone := await self._given_back(work, ended)) is not None:
                return gone
            if isinstance(ended.error, HeadraceError) and ended.error.systemic:
                return await self._hold(work, ended.error)
            if ended.error is not None:
                # It is removed later, as what every job left that has ended.
                log.warning("stream.remains_stay", error=str(ended.error)[:500])
        report = self._make.cancelled(entry, hold)
        settled = await settle(
            lambda: self._store.finish(hold, report), give_up=self.give_up, what="cancel"
        )
        if settled is Settlement.SETTLED:
            metrics.CANCELLED.inc()
            return "cancelled"
        return str(settled)

    async def _suspect(self, job: LeasedJob) -> None:
        """Let what we stored be removed if the job has ended elsewhere; best effort."""
        try:
            await self._store.suspect(job.job_id)
        except (redis.RedisError, OSError) as error:
            log.warning("stream.suspect_not_noted", error=str(error)[:500])

    async def _hold(self, work: Work, error: HeadraceError) -> str:
        """Begin nothing for a while, and give the entry back: it is not its job's fault."""
        pause = self._gate.close(error, work.delivery.hold.entry_id)
        if work.job is not None:
            work.job.wait(f"Waiting, the next try in {pause:.0f} s: {error.code}: {error.detail}")
            await self._reporter.tell(work.job)
        await self._hand_back(work)
        return "held"

    async def _fail(self, work: Work, entry: PreprocessEntry, error: BaseException) -> str:
        if isinstance(error, HeadraceError) and error.systemic:
            return await self._hold(work, error)
        failure = Failure.of(error)
        log.warning(
            "stream.attempt_failed",
            code=failure.code,
            error=failure.message,
            attempt=entry.attempt,
            exc_info=None if failure.expected else error,
        )
        plan = plan_retry(
            failure,
            attempt=entry.attempt,
            limits=self._limits,
            chance=random.random(),  # noqa: S311 - spreads load, hides nothing
        )
        hold = work.delivery.hold
        if isinstance(plan, Bury):
            return await self._bury(work, plan, self._make.failed(entry, hold, plan))
        delay = plan.delay_seconds
        due = datetime.now(UTC) + timedelta(seconds=delay)
        report = self._make.queued(entry, hold, failure, plan, due=due)
        fields = entry.fields(attempt=plan.attempt)
        settled = await settle(
            lambda: self._store.retry(hold, fields, delay_seconds=delay, report=report),
            give_up=self.give_up,
            what="retry",
        )
        if settled is Settlement.SETTLED:
            self._tally.retried(failure.code)
            return "retried"
        return str(settled)

    async def _bury(self, work: Work, bury: Bury, report: dict[str, str]) -> str:
        hold = work.delivery.hold
        letter = dead_letter(work.delivery.fields, hold, self._settings.consumer_name, bury)
        log.warning("stream.buried", entry_id=hold.entry_id, code=bury.code, reason=bury.reason)
        settled = await settle(
            lambda: self._store.bury(hold, letter, report), give_up=self.give_up, what="bury"
        )
        if settled is Settlement.SETTLED:
            self._tally.dead_lettered(bury.code)
            return "dead_lettered"
        return str(settled)

    async def _hand_back(self, work: Work) -> None:
        """Give the entry back; from here on nothing may be done with it."""
        hold = work.delivery.hold
        work.lease.lose()
        settled = await settle(
            lambda: self._store.hand_back(hold), give_up=self.give_up, what="hand_back"
        )
        if settled is Settlement.SETTLED:
            metrics.HANDED_BACK.inc()
            log.info("stream.handed_back", entry_id=hold.entry_id)


def _nothing_kept(entry: PreprocessEntry) -> SettledJob:
    """Return the run of a job of which nothing is to be kept."""
    return SettledJob(job_id=entry.job_id, cctv_id=entry.cctv_id, run=entry.job_run, folder=None)
