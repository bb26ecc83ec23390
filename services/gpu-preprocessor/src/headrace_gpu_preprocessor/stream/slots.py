"""Slots: how many jobs may run here, and what each does."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.deliveries import Delivery
from headrace_gpu_preprocessor.stream.job import LeasedJob
from headrace_gpu_preprocessor.stream.leases import Lease
from headrace_gpu_preprocessor.stream.settings import MOST_CONCURRENCY


@dataclass(eq=False)
class Work:
    """One delivery that is worked on.

    Attributes:
        stopping: set when it must be handed back.
        job: None until the entry is read.
    """

    slot: int
    delivery: Delivery
    lease: Lease
    stopping: threading.Event = field(default_factory=threading.Event)
    job: LeasedJob | None = None


class Slots:
    """Counts what runs against what may. Safe to use from any thread."""

    def __init__(self, target: int) -> None:
        """Begin with `target` slots, all free."""
        self._lock = threading.Lock()
        self._target = target
        self._paused = False
        self._paused_by_stream: str | None = None
        self._closed = False
        self._works: dict[str, Work] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._count()

    @property
    def target(self) -> int:
        """Jobs that may run at a time."""
        return self._target

    @property
    def paused(self) -> bool:
        """Whether nothing new is taken, here or anywhere."""
        return self._paused or self._paused_by_stream is not None

    @property
    def paused_by_stream(self) -> str | None:
        """Why no worker takes anything new; None while they may."""
        return self._paused_by_stream

    @property
    def free(self) -> int:
        """Jobs that may be begun now."""
        with self._lock:
            closed = self.paused or self._closed
            return 0 if closed else max(0, self._target - len(self._works))

    @property
    def works(self) -> list[Work]:
        """What runs, by slot."""
        with self._lock:
            return sorted(self._works.values(), key=lambda work: work.slot)

    @property
    def closed(self) -> bool:
        """Whether nothing new is taken for good."""
        return self._closed

    def find(self, entry_id: str) -> Work | None:
        """Return the work on an entry, if it is worked on."""
        with self._lock:
            return self._works.get(entry_id)

    def running_ids(self) -> list[str]:
        """Return the ids of the entries that are worked on."""
        with self._lock:
            return list(self._works)

    def set_target(self, target: int) -> None:
        """Change how many jobs may run; those that run finish.

        Raises:
            ValueError: out of bounds.
        """
        if not 1 <= target <= MOST_CONCURRENCY:
            raise ValueError(f"concurrency must be from 1 to {MOST_CONCURRENCY}")
        with self._lock:
            self._target = target
        self._changed()

    def set_paused(self, *, paused: bool) -> None:
        """Take nothing new, or take again."""
        with self._lock:
            self._paused = paused
        self._changed()

    def set_paused_by_stream(self, why: str | None) -> None:
        """Note whether the stream is paused for all workers, and why."""
        if why == self._paused_by_stream:
            return
        with self._lock:
            self._paused_by_stream = why
        self._changed()

    def close(self) -> None:
        """Take nothing new for good."""
        with self._lock:
            self._closed = True
        self._changed()

    def enter(self, delivery: Delivery, lease: Lease) -> Work:
        """Give a delivery a slot."""
        with self._lock:
            used = {work.slot for work in self._works.values()}
            slot = next(number for number in range(len(used) + 1) if number not in used)
            work = Work(slot, delivery, lease)
            self._works[delivery.hold.entry_id] = work
        self._changed()
        return work

    def leave(self, work: Work) -> None:
        """Give the slot back."""
        with self._lock:
            self._works.pop(work.delivery.hold.entry_id, None)
        self._changed()

    def _changed(self) -> None:
        self._count()
        self.on_change()

    def _count(self) -> None:
        metrics.SLOTS_TARGET.set(self._target)
        metrics.SLOTS_BUSY.set(len(self._works))
        metrics.PAUSED.set(self.paused)
