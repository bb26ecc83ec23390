"""How deliveries end: each in one step at the server, sent until that has answered."""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import redis
import structlog

from headrace_common.contracts.cctv import CctvResult, PreprocessEntry
from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.admission import MemoryGuard
from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.entries import ReportMaker, dead_letter
from headrace_gpu_preprocessor.stream.gate import Gate
from headrace_gpu_preprocessor.stream.job import LeasedJob, Remover
from headrace_gpu_preprocessor.stream.leases import LeaseKeeper
from headrace_gpu_preprocessor.stream.metrics import Tally
from headrace_gpu_preprocessor.stream.plan import Bury, Failure, RetryLimits, plan_retry
from headrace_gpu_preprocessor.stream.reporter import Reporter
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.settle import Settlement, settle
from headrace_gpu_preprocessor.stream.slots import Work
from headrace_gpu_preprocessor.stream.store import StreamStore

log = structlog.get_logger()


@dataclass(frozen=True)
class Parts:
    """What deliveries are worked on with.

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


class Endings:
    """Ends deliveries; each method says how, for metrics and logs."""

    def __init__(self, settings: StreamSettings, parts: Parts) -> None:
        """End deliveries of the stream of `settings`."""
        self._settings = settings
        self._limits = RetryLimits.of(settings)
        self._store = parts.store
        self._gate = parts.gate
        self._reporter = parts.reporter
        self._make = parts.make
        self._tally = parts.tally
        #: Set when there is no time left: what runs is handed back, whatever it does.
        self.give_up = asyncio.Event()

    async def completed(self, work: Work, entry: PreprocessEntry, result: CctvResult) -> str:
        """Acknowledge a job that is done."""
        hold = work.delivery.hold
        report = self._make.completed(entry, hold, result)
        settled = await settle(
            lambda: self._store.finish(hold, report), give_up=self.give_up, what="finish"
        )
        if settled is Settlement.SETTLED:
            self._gate.open()
            self._tally.processed()
            return "completed"
        return str(settled)

    async def cancelled(self, work: Work, entry: PreprocessEntry) -> str:
        """Acknowledge a job that is cancelled, and of which nothing is left."""
        hold = work.delivery.hold
        report = self._make.cancelled(entry, hold)
        settled = await settle(
            lambda: self._store.finish(hold, report), give_up=self.give_up, what="cancel"
        )
        if settled is Settlement.SETTLED:
            metrics.CANCELLED.inc()
            return "cancelled"
        return str(settled)

    async def suspect(self, job: LeasedJob) -> None:
        """Let what we stored be removed if the job has ended elsewhere; best effort."""
        try:
            await self._store.suspect(job.job_id)
        except (redis.RedisError, OSError) as error:
            log.warning("stream.suspect_not_noted", error=str(error)[:500])

    async def hold(self, work: Work, error: HeadraceError) -> str:
        """Begin nothing for a while, and give the entry back: it is not its job's fault."""
        pause = self._gate.close(error, work.delivery.hold.entry_id)
        if work.job is not None:
            work.job.wait(f"Waiting, the next try in {pause:.0f} s: {error.code}: {error.detail}")
            await self._reporter.tell(work.job)
        await self.hand_back(work)
        return "held"

    async def failed(self, work: Work, entry: PreprocessEntry, error: BaseException) -> str:
        """Repeat what may succeed later, give up what cannot, wait where it is nobody's fault."""
        if isinstance(error, HeadraceError) and error.systemic:
            return await self.hold(work, error)
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
            return await self.bury(work, plan, self._make.failed(entry, hold, plan))
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

    async def bury(self, work: Work, bury: Bury, report: dict[str, str]) -> str:
        """Give the entry up."""
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

    async def hand_back(self, work: Work) -> None:
        """Give the entry back; from here on nothing may be done with it."""
        hold = work.delivery.hold
        work.lease.lose()
        settled = await settle(
            lambda: self._store.hand_back(hold), give_up=self.give_up, what="hand_back"
        )
        if settled is Settlement.SETTLED:
            metrics.HANDED_BACK.inc()
            log.info("stream.handed_back", entry_id=hold.entry_id)
