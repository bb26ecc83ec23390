"""Log files: rotated, bounded, shown and followed."""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

#: A log above this many bytes moves to the previous one while its process goes on writing.
MAX_LOG_BYTES: Final = 20 * 1024 * 1024
_POLL_SECONDS: Final = 0.2


def previous_log(path: Path) -> Path:
    """Return the file that holds what came before `path`."""
    return path.with_name(path.name + ".1")


def rotate(path: Path) -> None:
    """Begin a new log; the one until now becomes the previous one."""
    if path.exists():
        path.replace(previous_log(path))
    path.touch(mode=0o600)


def bound(path: Path, *, limit: int = MAX_LOG_BYTES) -> bool:
    """Move the content of a log above `limit` bytes to the previous one.

    The process that writes it keeps its descriptor, which appends, so that it goes on at the
    new beginning. Lines written within the copy's last moment may be lost.

    Returns:
        Whether it was moved.
    """
    if not path.exists() or path.stat().st_size <= limit:
        return False
    shutil.copyfile(path, previous_log(path))
    previous_log(path).chmod(0o600)
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log, none if there is no log."""
    if not path.exists():
        return []
    with path.open(errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=lines)]


def follow(path: Path, *, lines: int, stopped: Callable[[], bool]) -> Iterator[str]:
    """Yield the last lines of a log, then each new one, across rotations.

    Args:
        path: the log.
        lines: how many of the old ones.
        stopped: asked when nothing is new; true ends it.
    """
    fresh, position, inode = _read_new(path, 0, 0)
    yield from fresh[-lines:] if lines else ()
    while True:
        fresh, position, inode = _read_new(path, position, inode)
        yield from fresh
        if not fresh:
            if stopped():
                return
            time.sleep(_POLL_SECONDS)


def _read_new(path: Path, position: int, inode: int) -> tuple[list[str], int, int]:
    """Return the whole lines after `position`, and where to go on."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != inode or status.st_size < position:  # rotated or truncated
                position = 0
            file.seek(position)
            whole, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return [], 0, 0
    position += len(whole) + len(newline)
    return whole.decode(errors="replace").split("\n") if newline else [], position, status.st_ino
