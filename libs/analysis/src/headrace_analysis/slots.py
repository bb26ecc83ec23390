"""A fixed number of threads that run deliveries; they know how many are free."""

import threading
from collections import deque
from collections.abc import Callable

import structlog

from headrace_analysis import metrics
from headrace_analysis.deliveries import Delivery

log = structlog.get_logger()


class Slots:
    """Runs deliveries in the order in which they come, so many at a time."""

    def __init__(self, size: int, run: Callable[[Delivery], None]) -> None:
        """Make the slots.

        Args:
            size: how many.
            run: does the work; whatever it raises is logged, and the slot lives on.
        """
        self._size = size
        self._run = run
        self._waiting: deque[Delivery] = deque()
        self._busy = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._loop, name=f"analysis-slot-{n}", daemon=True)
            for n in range(size)
        ]

    def start(self) -> None:
        """Begin to work."""
        metrics.SLOTS.set(self._size)
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a slot."""
        return len(self._waiting)

    def _free(self) -> int:
        return max(0, self._size - self._busy - len(self._waiting))

    def wait_free(self, timeout: float) -> int:
        """Wait until a slot is free, and return how many are; 0 when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._free() > 0, timeout)
            return self._free()

    def submit(self, delivery: Delivery) -> bool:
        """Run a delivery on the next free slot; False where the slots are closed."""
        with self._changed:
            if self._closed:
                return False
            self._waiting.append(delivery)
            self._changed.notify_all()
            return True

    def close(self, *, keep: Callable[[Delivery], bool] = lambda _: False) -> list[Delivery]:
        """Take nothing any more; return what has not been started.

        Args:
            keep: whether to run a delivery that waits all the same.
        """
        with self._changed:
            self._closed = True
            left = [delivery for delivery in self._waiting if not keep(delivery)]
            self._waiting = deque(delivery for delivery in self._waiting if keep(delivery))
            self._changed.notify_all()
            return left

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing runs or waits; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._busy or self._waiting), max(0.0, timeout)
            )

    def _loop(self) -> None:
        while (delivery := self._take()) is not None:
            try:
                self._run(delivery)
            except Exception:
                # The slot must live on: the message comes back after its visibility timeout.
                log.exception("analysis.slot_failed")
            finally:
                self._done()

    def _take(self) -> Delivery | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._busy += 1
            metrics.SLOTS_BUSY.set(self._busy)
            return self._waiting.popleft()

    def _done(self) -> None:
        with self._changed:
            self._busy -= 1
            metrics.SLOTS_BUSY.set(self._busy)
            self._changed.notify_all()
