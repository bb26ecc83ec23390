"""The consumer's event loop: reads when there is room, starts work, and stops in good order."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import redis
import structlog

from headrace_gpu_preprocessor.admission import MemoryGuard
from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.connections import command_client, lease_client
from headrace_gpu_preprocessor.stream.deliveries import Claimed, Delivery
from headrace_gpu_preprocessor.stream.endings import Parts
from headrace_gpu_preprocessor.stream.entries import ReportMaker
from headrace_gpu_preprocessor.stream.gate import Gate
from headrace_gpu_preprocessor.stream.housekeeping import Housekeeper
from headrace_gpu_preprocessor.stream.janitor import Janitor
from headrace_gpu_preprocessor.stream.job import Handler, Remover
from headrace_gpu_preprocessor.stream.leases import LeaseKeeper
from headrace_gpu_preprocessor.stream.metrics import Tally
from headrace_gpu_preprocessor.stream.reader import BlockingReader
from headrace_gpu_preprocessor.stream.reporter import Reporter
from headrace_gpu_preprocessor.stream.runner import JOB_KIND, DeliveryRunner
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.settle import settle
from headrace_gpu_preprocessor.stream.slots import Slots, Work
from headrace_gpu_preprocessor.stream.store import StreamStore
from headrace_gpu_preprocessor.stream.watch import Watch

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: While there is no memory for a job, it is looked at so often.
_MEMORY_POLL_SECONDS: Final = 0.5
#: Of the grace, so much is kept for handing back what does not finish.
_HAND_BACK_SHARE: Final = 0.3
_MOST_HAND_BACK_SECONDS: Final = 6.0
#: A read that cannot be woken is cut off.
_WAKE_SECONDS: Final = 1.0
_CANCEL_AGAIN_SECONDS: Final = 0.2


class Session:
    """Everything that lives on the consumer's loop. Made and used there."""

    def __init__(
        self,
        settings: StreamSettings,
        slots: Slots,
        gate: Gate,
        *,
        handler: Handler,
        remover: Remover | None,
        guard: MemoryGuard,
        tally: Tally,
        observe: Callable[[], Any],
        on_contact: Callable[[], None],
    ) -> None:
        """Put the parts together; connects to nothing yet.

        Args:
            settings: of the stream.
            slots: how many jobs may run, and which do.
            gate: closed while what every job needs is at fault.
            handler: does the work.
            remover: removes what jobs left; None where they leave nothing.
            guard: of the memory.
            tally: of what happened.
            observe: takes the group's figures; blocks, and is called in a thread.
            on_contact: called whenever the server has answered.
        """
        self._settings = settings
        self._slots = slots
        self._gate = gate
        self._guard = guard
        self._on_contact = on_contact
        self._clients = [command_client(settings), lease_client(settings)]
        self._store = StreamStore(self._clients[0], settings)
        self._keeper = LeaseKeeper(
            StreamStore(self._clients[1], settings),
            visibility_seconds=settings.redis_visibility_timeout,
        )
        make = ReportMaker(settings.consumer_name)
        self._reporter = Reporter(self._store, make)
        parts = Parts(self._store, self._keeper, guard, gate, self._reporter, make, tally, remover)
        self._runner = DeliveryRunner(handler, settings, parts)
        self._housekeeper = Housekeeper(
            self._store,
            settings,
            watch=Watch(self._store, slots),
            observe=lambda: asyncio.to_thread(observe),
            on_contact=on_contact,
        )
        self._janitor = None
        if remover is not None:
            self._janitor = Janitor(self._store, remover, is_closed=lambda: gate.is_closed)
        self._changed = asyncio.Event()
        self._reader: BlockingReader | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._waking: set[asyncio.Task[None]] = set()
        #: Whether entries may be pending with us that we know nothing of.
        self._unsure = True

    def wake(self) -> None:
        """React to slots that changed; called on the loop."""
        self._changed.set()
        reader = self._reader
        if reader is not None and reader.asking > self._places() and not self._waking:
            self._keep(self._waking, reader.wake(self._places))  # it would bring more than may run

    async def run(self, stop_asked: asyncio.Event, deadline: Callable[[], float]) -> None:
        """Consume until `stop_asked`, then stop in good order by `deadline` (monotonic)."""
        endless = [
            asyncio.create_task(self._forever("reader", self._read), name="stream-reader"),
            asyncio.create_task(self._forever("leases", self._keeper.run), name="stream-leases"),
            asyncio.create_task(self._forever("reports", self._reporter.run), name="reports"),
            asyncio.create_task(self._forever("chores", self._housekeeper.run), name="chores"),
        ]
        if self._janitor is not None:
            clearing = self._forever("janitor", self._janitor.run)
            endless.append(asyncio.create_task(clearing, name="stream-janitor"))
        try:
            await stop_asked.wait()
            await self._stop(endless[0], deadline())
        finally:
            await _end({*endless, *self._jobs, *self._waking})
            for client in self._clients:
                await client.aclose()

    async def _forever(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop, and again after whatever ended it, a while later each time.

        Returns when the loop ends by itself.
        """
        failures = 0
        while True:
            began = time.monotonic()
            try:
                return await run()
            except (redis.RedisError, OSError) as error:
                log.warning("stream.interrupted", part=name, error=str(error), failures=failures)
            except Exception:
                # A surprise must not end the consumer: its entries would wait for ever.
                log.exception("stream.part_failed", part=name, failures=failures)
            metrics.RECONNECTS.inc()
            if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                failures = 0
            pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)
            failures += 1
            await asyncio.sleep(pause)

    async def _read(self) -> None:
        """Read over one connection until it breaks."""
        await self._store.disconnect()
        async with BlockingReader(self._settings, self._store) as reader:
            if await self._store.ensure_group():
                log.info("stream.group_made", stream=self._settings.redis_stream)
            self._reader = reader
            try:
                while room := await self._room():
                    await self._read_once(reader, room)
            finally:
                self._reader = None

    async def _room(self) -> int:
        """Wait until something may be begun; return how many entries, 0 at a stop."""
        while True:
            self._changed.clear()
            if self._slots.closed:
                return 0
            # While the stream is paused nothing is handed out, what is ours already neither.
            self._unsure = self._unsure or self._slots.paused
            wanted = min(self._places(), self._settings.redis_batch_count)
            room = self._guard.room(JOB_KIND, wanted)
            if room > 0:
                return room
            poll = _MEMORY_POLL_SECONDS if wanted else self._gate.seconds_left or None
            try:
                async with asyncio.timeout(poll):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _places(self) -> int:
        """Return how many jobs may be begun now, but for memory."""
        return self._gate.places(self._slots.free, busy=len(self._slots.running_ids()))

    async def _read_once(self, reader: BlockingReader, room: int) -> None:
        """Begin what was ours already, then what others left, then what is new."""
        if self._unsure:
            if await self._claim(room, own=True) == room:
                return  # there may be more
            self._unsure = False
        try:
            if await self._claim(room, own=False):
                return
            answer = await reader.read(room)
        except (redis.RedisError, OSError) as error:
            # Entries may have been handed out whose answer was lost.
            self._unsure = not isinstance(error, redis.ResponseError)
            raise
        self._on_contact()
        await self._begin("new", answer.deliveries, since=answer.asked_at)

    async def _claim(self, count: int, *, own: bool) -> int:
        since = time.monotonic()
        claimed: Claimed = await self._store.claim(
            count=count,
            running=[*self._slots.running_ids(), *([] if own else self._gate.pass_over())],
            idle_seconds=0 if own else self._settings.redis_visibility_timeout,
            own=own,
        )
        self._on_contact()
        if claimed.deleted:
            log.warning("stream.entries_deleted", entry_ids=claimed.deleted)
        await self._begin("own" if own else "taken_over", claimed.deliveries, since=since)
        return len(claimed.deliveries)

    async def _begin(self, kind: str, deliveries: list[Delivery], *, since: float) -> None:
        """Give deliveries a slot each; what came when there was none any more goes back.

        A server that lost its last writes hands out again what runs here. It is the same
        delivery if the number is; else the one that runs is void, and the entry waits for its end.
        """
        for delivery in deliveries:
            metrics.DELIVERIES.labels(kind=kind).inc()
            if kind != "new":
                hold = delivery.hold
                log.info(
                    "stream.claimed", kind=kind, entry_id=hold.entry_id, delivery=hold.delivery
                )
            running = self._slots.find(delivery.hold.entry_id)
            if running is not None and running.lease.adopt(delivery.hold, since=since):
                log.warning("stream.delivered_again", entry_id=delivery.hold.entry_id)
                continue
            if running is not None or self._places() == 0:
                self._keep(self._jobs, self._return(delivery))
                continue
            lease = self._keeper.hold(delivery.hold, since=since)
            work = self._slots.enter(delivery, lease)
            task = asyncio.create_task(self._runner.run(work), name=delivery.hold.entry_id)
            self._jobs.add(task)
            task.add_done_callback(partial(self._ended, work))

    async def _return(self, delivery: Delivery) -> None:
        hold = delivery.hold
        await settle(
            lambda: self._store.hand_back(hold), give_up=self._runner.give_up, what="hand_back"
        )
        metrics.HANDED_BACK.inc()

    def _ended(self, work: Work, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        self._slots.leave(work)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours: the lease runs out, and the entry comes again.
            log.error("stream.runner_failed", exc_info=error)

    async def _stop(self, reading: asyncio.Task[None], deadline: float) -> None:
        """Take nothing new; let work finish, then hand it back, then leave it."""
        log.info("stream.stopping", running=len(self._jobs))
        last = min(
            _MOST_HAND_BACK_SECONDS, max(0.0, deadline - time.monotonic()) * _HAND_BACK_SHARE
        )
        self.wake()
        await asyncio.wait({reading}, timeout=min(_WAKE_SECONDS, last))
        await _end({reading})  # the server does not answer
        await self._wait_idle(deadline - last)
        for work in self._slots.works:
            work.stopping.set()
        await self._wait_idle(deadline - last / 2)
        for work in self._slots.works:
            work.lease.lose()
        self._runner.give_up.set()
        await self._wait_idle(deadline)
        log.info("stream.stopped", left=len(self._jobs))

    async def _wait_idle(self, until: float) -> None:
        while self._jobs and (left := until - time.monotonic()) > 0:
            await asyncio.wait(set(self._jobs), timeout=left)

    def _keep(self, tasks: set[asyncio.Task[None]], run: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(run)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: before Python 3.12 a cancellation that comes in the moment in which an
    inner wait ends is swallowed, and redis-py waits in that way.
    """
    while running := {task for task in tasks if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_CANCEL_AGAIN_SECONDS)
