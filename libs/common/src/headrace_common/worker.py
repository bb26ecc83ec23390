"""A Dramatiq worker inside a service's own process: one process a pod, one set of metrics."""

import structlog
from dramatiq import Broker, Worker

log = structlog.get_logger()


class EmbeddedWorker:
    """Runs the actors that are declared on a broker, in threads of this process."""

    def __init__(self, broker: Broker, *, queues: set[str], threads: int) -> None:
        """Make a worker; it takes nothing before `start`.

        Args:
            broker: with every actor declared.
            queues: to take messages from.
            threads: messages worked on at once.
        """
        self._worker = Worker(broker, queues=queues, worker_threads=threads, worker_timeout=100)
        # What is prefetched is out of other workers' reach, and a message of a better lane
        # that comes later waits behind it: never more than can be started at once.
        self._worker.queue_prefetch = threads
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
        self._worker.stop(timeout=int(grace_seconds * 1000))
        self._started = False
        log.info("worker.stopped")
