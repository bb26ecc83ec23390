"""The stream consumer: a thread with an event loop, and its controls for everybody else."""

import asyncio
import contextlib
import threading
import time
from typing import Final

import redis
import structlog

from headrace_gpu_preprocessor.admission import MemoryGuard
from headrace_gpu_preprocessor.stream.connections import status_client
from headrace_gpu_preprocessor.stream.gate import Gate
from headrace_gpu_preprocessor.stream.job import Handler, Remover
from headrace_gpu_preprocessor.stream.metrics import Counts, Tally
from headrace_gpu_preprocessor.stream.session import Session
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.slots import Slots
from headrace_gpu_preprocessor.stream.status import (
    GroupReader,
    GroupView,
    PendingEntry,
    StreamSnapshot,
    note,
    seconds_since,
    slot_views,
)

log = structlog.get_logger()

#: Without an answer of Redis for so long beyond the usual, the consumer does not work.
_SILENCE_SECONDS: Final = 15.0


class StreamConsumer:
    """Consumes the stream of jobs. Every method may be called from any thread."""

    def __init__(
        self,
        settings: StreamSettings,
        handler: Handler,
        guard: MemoryGuard,
        remover: Remover | None = None,
    ) -> None:
        """Make it; it connects to nothing before `start`.

        Args:
            settings: of the stream.
            handler: does the work of one job, in a thread of its own.
            guard: decides when there is memory for one more.
            remover: removes what jobs left; None where they leave nothing.
        """
        self._settings = settings
        self._remover = remover
        self._handler = handler
        self._guard = guard
        self._slots = Slots(settings.max_concurrency)
        self._gate = Gate(
            first_seconds=settings.systemic_pause_seconds,
            most_seconds=settings.systemic_pause_max_seconds,
        )
        self._tally = Tally()
        self._status = status_client(settings)
        self._groups = GroupReader(self._status, settings)
        self._group: GroupView | None = None
        self._contact: float | None = None
        self._deadline = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._main, name="stream-consumer", daemon=True)

    def start(self) -> None:
        """Begin to consume, as soon as the server can be reached."""
        self._thread.start()
        log.info("stream.started", consumer=self._settings.consumer_name, slots=self._slots.target)

    def ask_to_stop(self, *, grace_seconds: float) -> None:
        """Take nothing new from now on; what runs gets `grace_seconds`, then is handed back."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._deadline = time.monotonic() + grace_seconds
            self._slots.close()
            self._tell_loop()

    def join(self, *, timeout_seconds: float) -> bool:
        """Wait for the end of the loop; whether it came in time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def stop(self, *, grace_seconds: float) -> None:
        """Stop in good order: within the grace all is finished or handed back."""
        self.ask_to_stop(grace_seconds=grace_seconds)
        if not self.join(timeout_seconds=grace_seconds + 1):
            log.error("stream.stop_overdue")
        self._status.close()

    @property
    def concurrency(self) -> int:
        """Jobs that may run at a time."""
        return self._slots.target

    @property
    def paused(self) -> bool:
        """Whether nothing new is taken."""
        return self._slots.paused

    def set_concurrency(self, number: int) -> int:
        """Change how many jobs may run at a time; return how many that were.

        Nothing is lost or repeated: what runs beyond a lower number finishes.

        Raises:
            ValueError: not from 1 to 32.
        """
        before = self._slots.target
        self._slots.set_target(number)
        log.info("stream.concurrency_changed", before=before, now=number)
        return before

    def pause(self) -> None:
        """Take nothing new; what runs finishes."""
        self._slots.set_paused(paused=True)
        log.info("stream.paused")

    def resume(self) -> None:
        """Take entries again."""
        self._slots.set_paused(paused=False)
        log.info("stream.resumed")

    def counts(self) -> Counts:
        """Return what happened in this process so far."""
        return self._tally.counts

    def json_counters(self) -> dict[str, int]:
        """Return the counters of V7; `pending` is as of the last look at the group."""
        counts = self._tally.counts
        return {
            "processed": counts.processed,
            "failed": counts.failed,
            "retried": counts.retried,
            "dlq": counts.dlq,
            "pending": self._group.pending if self._group else 0,
            "concurrency_current": self._slots.target,
        }

    def snapshot(self) -> StreamSnapshot:
        """Return the state of the consumer and, where the server answers soon, of its group."""
        group: GroupView | None = None
        pending: list[PendingEntry] = []
        error: str | None = None
        try:
            group, pending = self._groups.read()
        except (redis.RedisError, OSError) as failure:
            error = type(failure).__name__
        slots = slot_views(self._slots)
        counts = self.json_counters()
        return StreamSnapshot(
            consumer=self._settings.consumer_name,
            concurrency=self._slots.target,
            busy=len(slots),
            paused=self._slots.paused,
            paused_by_stream=self._slots.paused_by_stream,
            stopping=self._stopping,
            slots=slots,
            group=group,
            pending=pending,
            error=error,
            last_contact_seconds=seconds_since(self._contact),
            counts={name: counts[name] for name in ("processed", "failed", "retried", "dlq")},
            admission=self._guard.view(),
            waiting_for=self._gate.view(),
        )

    def check_alive(self) -> None:
        """Check that the loop runs.

        Raises:
            RuntimeError: it was not started, or has ended.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the stream consumer does not run")

    def check_working(self) -> None:
        """Check that the server answers.

        Raises:
            RuntimeError: it has not for too long.
        """
        self.check_alive()
        usual = max(self._settings.redis_block_ms / 1_000, self._settings.redis_observe_seconds)
        silent = seconds_since(self._contact)
        if silent is None or silent > usual + _SILENCE_SECONDS:
            raise RuntimeError("Redis does not answer the stream consumer")

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        session = Session(
            self._settings,
            self._slots,
            self._gate,
            handler=self._handler,
            remover=self._remover,
            guard=self._guard,
            tally=self._tally,
            observe=self._observe,
            on_contact=self._note_contact,
        )
        stop_asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(session.wake)

        with self._lock:
            self._loop, self._stop_asked = loop, stop_asked
            self._slots.on_change = wake
            if self._stopping:
                stop_asked.set()
        await session.run(stop_asked, lambda: self._deadline)

    def _tell_loop(self) -> None:
        if self._loop is not None and self._stop_asked is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._stop_asked.set)

    def _observe(self) -> None:
        self._group, _ = self._groups.read()
        note(self._group)

    def _note_contact(self) -> None:
        self._contact = time.monotonic()
