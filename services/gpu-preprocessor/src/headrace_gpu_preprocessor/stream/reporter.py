"""Reports on progress: every stage, and the percentage about once a second, best effort."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import redis
import structlog

from headrace_common.contracts.cctv import Stage
from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.entries import ReportMaker
from headrace_gpu_preprocessor.stream.job import LeasedJob
from headrace_gpu_preprocessor.stream.store import StreamStore

log = structlog.get_logger()

_SECONDS_BETWEEN: Final = 1.0
#: Changes of stage that may wait while Redis is away.
_MOST_WAITING: Final = 8


@dataclass
class _Story:
    """What is still to be told of one job.

    Attributes:
        stages: reports on changes of stage.
        latest: the newest report on the percentage.
        next_at: monotonic time from which on `latest` may be sent.
    """

    stage: Stage | None = None
    stages: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=_MOST_WAITING))
    latest: dict[str, str] | None = None
    next_at: float = 0.0


class Reporter:
    """Sends reports on progress. Used on the event loop, but for `offer`."""

    def __init__(self, store: StreamStore, make: ReportMaker) -> None:
        """Send through `store`."""
        self._store = store
        self._make = make
        self._stories: dict[str, _Story] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begin(self, job: LeasedJob) -> None:
        """Tell of this job from now on."""
        self._stories[job.entry_id] = _Story()

    def end(self, entry_id: str) -> None:
        """Tell nothing more: the end of the job is reported with its acknowledgement."""
        self._stories.pop(entry_id, None)

    def offer(self, job: LeasedJob) -> None:
        """Take news of a job, from any thread."""
        report = self._make.processing(job)
        try:
            self._loop.call_soon_threadsafe(self._take, job.entry_id, job.now.stage, report)
        except RuntimeError:  # the loop has ended; a thread has outlived its job
            metrics.REPORTS_DROPPED.inc()

    async def tell(self, job: LeasedJob) -> None:
        """Report once how far a job is that has ended here without being done."""
        await self._put(self._make.processing(job))

    def _take(self, entry_id: str, stage: Stage | None, report: dict[str, str]) -> None:
        story = self._stories.get(entry_id)
        if story is None:
            return
        if stage is None or stage is not story.stage:
            story.stage, story.latest = stage, None
            story.stages.append(report)
        else:
            story.latest = report
        self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            self._news.clear()
            for entry_id in list(self._stories):
                await self._send(entry_id)
            try:
                async with asyncio.timeout(self._pause()):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _pause(self) -> float | None:
        due = [story.next_at for story in self._stories.values() if story.latest]
        return max(0.0, min(due) - time.monotonic()) if due else None

    async def _send(self, entry_id: str) -> None:
        story = self._stories.get(entry_id, _Story())  # it may have ended meanwhile
        while story.stages and entry_id in self._stories:
            story.next_at = time.monotonic() + _SECONDS_BETWEEN
            await self._put(story.stages.popleft())
        now = time.monotonic()
        if story.latest is not None and now >= story.next_at and entry_id in self._stories:
            report, story.latest, story.next_at = story.latest, None, now + _SECONDS_BETWEEN
            await self._put(report)

    async def _put(self, report: dict[str, str]) -> None:
        try:
            taken = await self._store.report(report)
        except (redis.RedisError, OSError) as error:
            log.debug("stream.report_dropped", error=str(error))
            taken = False
        if not taken:
            metrics.REPORTS_DROPPED.inc()
