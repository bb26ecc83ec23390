"""One supervisor for a directory."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace_local.errors import LocalStackError


class AlreadyRunningError(LocalStackError):
    """Another supervisor has this directory."""

    code = "local_already_running"
    status = 409
    title = "Already running"


class StackLock:
    """Held as long as the supervisor lives; the system frees it when it dies, however."""

    def __init__(self, path: Path) -> None:
        """Make it for the lock file `path`, whose directory exists."""
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            AlreadyRunningError: somebody has it.
        """
        # Children do not inherit it: Python opens files close-on-exec.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunningError(f"a stack already runs in {self._path.parent}") from None
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
