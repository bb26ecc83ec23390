"""Micro-batches: single entries from many threads, sent together, answered one by one.

An entry waits a few milliseconds at most for company. What one of a batch fails with is
told to the thread that brought it, and to no other.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

Entry = TypeVar("Entry")
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How large a batch may be and how long it may wait.

    Attributes:
        entries: most entries in a batch.
        size: most bytes in a batch.
        linger_seconds: longest that the first entry waits for more.
    """

    entries: int
    size: int
    linger_seconds: float


def pack_batches(
    entries: Sequence[Entry], *, limits: BatchLimits, size_of: Callable[[Entry], int]
) -> Iterator[list[Entry]]:
    """Cut `entries`, in order, into batches within `limits`.

    An entry that is too large by itself becomes a batch of its own, for the receiver to refuse.
    """
    batch: list[Entry] = []
    total = 0
    for entry in entries:
        size = size_of(entry)
        if batch and (len(batch) == limits.entries or total + size > limits.size):
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += size
    if batch:
        yield batch


@dataclass(frozen=True)
class _Waiting(Generic[Entry, Answer]):
    entry: Entry
    size: int
    future: "Future[Answer]" = field(default_factory=Future)


class MicroBatcher(Generic[Entry, Answer]):
    """Collects entries and sends them in batches from threads of its own."""

    def __init__(
        self,
        send: Callable[[list[Entry]], Sequence[Answer | Exception]],
        *,
        name: str,
        limits: BatchLimits,
        size_of: Callable[[Entry], int],
        senders: int,
    ) -> None:
        """Make and start it.

        Args:
            send: sends a batch and returns an answer or an error for each entry, in order.
                What it raises is every entry's error.
            name: for threads and logs.
            limits: of a batch.
            size_of: bytes that an entry takes in a batch.
            senders: batches on their way at once.
        """
        self._send = send
        self._limits = limits
        self._size_of = size_of
        self._waiting: queue.SimpleQueue[_Waiting[Entry, Answer] | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(senders, thread_name_prefix=f"{name}-send")
        self._lock = threading.Lock()
        self._closed = False
        self._collector = threading.Thread(target=self._collect, name=f"{name}-batch", daemon=True)
        self._collector.start()

    def submit(self, entry: Entry) -> "Future[Answer]":
        """Add an entry; the future has its answer, or raises its error.

        Raises:
            RuntimeError: the batcher is closed.
        """
        # Measured by who brings it: an error is theirs, and the collecting thread lives on.
        item: _Waiting[Entry, Answer] = _Waiting(entry, self._size_of(entry))
        with self._lock:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.put(item)
        return item.future

    def check(self) -> None:
        """Check that the collecting thread lives.

        Raises:
            RuntimeError: it does not.
        """
        if not self._collector.is_alive():
            raise RuntimeError("the collecting thread has ended")

    def close(self) -> None:
        """Send what waits, wait for every answer, and end the threads."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._collector.join()
        self._pool.shutdown(wait=True)

    def _collect(self) -> None:
        open_for_more = True
        while open_for_more:
            first = self._waiting.get()
            if first is None:
                return
            collected = [first]
            open_for_more = self._linger(collected)
            limits = self._limits
            for batch in pack_batches(collected, limits=limits, size_of=lambda item: item.size):
                self._pool.submit(self._deliver, batch)

    def _linger(self, collected: list[_Waiting[Entry, Answer]]) -> bool:
        """Collect more until the batch is full or its time is over; False at the end of all."""
        deadline = time.monotonic() + self._limits.linger_seconds
        while len(collected) < self._limits.entries:
            try:
                item = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return True
            if item is None:
                return False
            collected.append(item)
        return True

    def _deliver(self, batch: list[_Waiting[Entry, Answer]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = self._send([item.entry for item in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(batch)} entries were sent, {len(answers)} answered")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - passed on to everyone who waits
            answers = [error] * len(batch)
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                item.future.set_exception(answer)
            else:
                item.future.set_result(answer)
