"""How long a piece of house-keeping may go on: until its time is over, or its process stops."""

import threading
import time


class Shift:
    """One time at work."""

    def __init__(self, stopping: threading.Event, *, seconds: float) -> None:
        """Begin it; it lasts so long at most."""
        self._stopping = stopping
        self._until = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether what is left has to wait for the next one."""
        return self._stopping.is_set() or time.monotonic() >= self._until

    def is_stopped(self) -> bool:
        """Whether the process is about to end."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Leave the server to others for some time; a stop ends that."""
        left = max(0.0, self._until - time.monotonic())
        self._stopping.wait(min(seconds, left))

    def wait(self, seconds: float) -> None:
        """Let so much time pass, whatever is left of the shift; a stop ends that."""
        self._stopping.wait(seconds)


class Shifts:
    """The shifts of one process. Safe to use from any thread."""

    def __init__(self, *, seconds: float) -> None:
        """Let each last so long at most."""
        self._seconds = seconds
        self._stopping = threading.Event()

    def begin(self) -> Shift:
        """Begin a shift."""
        return Shift(self._stopping, seconds=self._seconds)

    def ask_to_stop(self) -> None:
        """Let those under way be over."""
        self._stopping.set()
