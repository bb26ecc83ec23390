"""A thread that does the same again and again until it is told to stop."""

import threading
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0


class Repeater:
    """Repeats a step. One that fails is logged, and repeated after a pause that grows."""

    def __init__(self, name: str, step: Callable[[], float]) -> None:
        """Make it.

        Args:
            name: of the thread, and in the log.
            step: returns the seconds until it is wanted again.
        """
        self.name = name
        self._step = step
        self._stopping = threading.Event()
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let the step under way be the last."""
        self._stopping.set()

    def join(self, *, timeout_seconds: float) -> None:
        """Wait until the step under way is done."""
        self._thread.join(timeout_seconds)

    def check_alive(self) -> None:
        """Check the thread.

        Raises:
            RuntimeError: it has ended.
        """
        if not self._thread.is_alive():
            raise RuntimeError(f"the thread {self.name} has ended")

    def check_working(self) -> None:
        """Check what it does.

        Raises:
            RuntimeError: the last step failed.
        """
        if self._fault is not None:
            raise RuntimeError(self._fault)

    def _run(self) -> None:
        failures = 0
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                pause = self._step()
                failures, self._fault = 0, None
            except Exception as error:
                pause = min(_FIRST_PAUSE_SECONDS * 2**failures, _LONGEST_PAUSE_SECONDS)
                failures, self._fault = min(failures + 1, 10), str(error)
                log.warning("repeat.failed", thread=self.name, pause_seconds=pause, exc_info=error)
