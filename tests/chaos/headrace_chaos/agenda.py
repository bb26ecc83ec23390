"""Tasks that are due at a time, done by a few threads; a task may put further ones on it."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Task = Callable[[], None]


class Agenda:
    """Does each task as soon after its time as a thread is free."""

    def __init__(self, threads: int) -> None:
        """Make it; nothing is done before `start`."""
        self._tasks: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._in_hand = 0
        self._stopping = False
        self._faults: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, name=f"agenda-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def after(self, seconds: float, task: Task) -> None:
        """Have a task done so many seconds from now."""
        with self._changed:
            heapq.heappush(self._tasks, (time.monotonic() + seconds, next(self._numbers), task))
            self._changed.notify()

    @property
    def left(self) -> int:
        """Tasks that wait or are in hand."""
        with self._changed:
            return len(self._tasks) + self._in_hand

    def check(self) -> None:
        """Raise what a task raised: a fault of the workload's own, which hides others."""
        with self._changed:
            if self._faults:
                raise self._faults[0]

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to do, and say whether that is so."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (self._tasks or self._in_hand) and not self._faults:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 1.0))
        self.check()
        return True

    def stop(self) -> None:
        """Forget what waits, and let what is in hand come to its end."""
        with self._changed:
            self._stopping = True
            self._tasks.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised by `check` on another thread
                with self._changed:
                    self._faults.append(error)
            finally:
                with self._changed:
                    self._in_hand -= 1
                    self._changed.notify_all()

    def _next(self) -> Task | None:
        with self._changed:
            while not self._stopping:
                if not self._tasks:
                    self._changed.wait()
                elif (left := self._tasks[0][0] - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    self._in_hand += 1
                    return heapq.heappop(self._tasks)[2]
        return None
