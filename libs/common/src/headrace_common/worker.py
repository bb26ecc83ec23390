"""A Dramatiq worker inside a service's own process: one process a pod, one set of metrics."""

from queue import Empty, PriorityQueue
from typing import Any, Final

import structlog
from dramatiq import Broker, Worker

log = structlog.get_logger()

#: A consumer of an empty queue looks again after half to all of this, and sooner where messages
#: just came.
_LONGEST_POLL_MS: Final = 200
#: A worker thread without work looks up so often; a message and a stop wake it at once.
_IDLE_SECONDS: Final = 30.0
#: The same, once they are to end.
_ENDING_SECONDS: Final = 0.02


class _WorkQueue(PriorityQueue[Any]):
    """Lets threads that wait for work sleep.

    Dramatiq's look up at each time-out of its consumers, which is short so that messages are
    found soon: 32 threads that do nothing ten times a second took 3 per cent of a core.
    """

    def __init__(self) -> None:
        """Make it, empty."""
        super().__init__()
        self._idle_seconds = _IDLE_SECONDS

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - as inherited
        """Return the next item.

        Raises:
            Empty: there was none for some time, whatever the time-out.
        """
        if not block:
            return super().get(block=False)
        with self.not_empty:
            if not self._qsize():
                self.not_empty.wait(self._idle_seconds)
            if not self._qsize():
                raise Empty
            item = self._get()
            self.not_full.notify()
            return item

    def wake(self) -> None:
        """Let whoever waits look up, and again soon."""
        with self.not_empty:
            self._idle_seconds = _ENDING_SECONDS
            self.not_empty.notify_all()


class EmbeddedWorker:
    """Runs the actors that are declared on a broker, in threads of this process."""

    def __init__(self, broker: Broker, *, queues: set[str], threads: int) -> None:
        """Make a worker; it takes nothing before `start`.

        Args:
            broker: with every actor declared.
            queues: to take messages from.
            threads: messages worked on at once.
        """
        self._worker = Worker(
            broker, queues=queues, worker_threads=threads, worker_timeout=_LONGEST_POLL_MS
        )
        # What is prefetched is out of other workers' reach, and a message of a better lane
        # that comes later waits behind it: never more than can be started at once.
        self._worker.queue_prefetch = threads
        self._work_queue = self._worker.work_queue = _WorkQueue()
        self._threads = threads
        self._started = False

    def start(self) -> None:
        """Start taking messages."""
        self._worker.start()
        self._started = True
        log.info("worker.started", threads=self._threads)

    def check(self) -> None:
        """Check that every thread lives.

        Raises:
            RuntimeError: the worker has not started, or a thread of it has died.
        """
        threads = [*self._worker.workers, *self._worker.consumers.values()]
        dead = [thread.name for thread in threads if not thread.is_alive()]
        if not self._started or dead:
            raise RuntimeError(f"worker threads not running: {', '.join(dead) or 'all'}")

    def stop(self, *, grace_seconds: float) -> None:
        """Finish what runs within `grace_seconds` and hand the rest back to the queues."""
        self._work_queue.wake()
        self._worker.stop(timeout=int(grace_seconds * 1000))
        self._started = False
        log.info("worker.stopped")
