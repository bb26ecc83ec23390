"""Processes: who they are beyond a pid, starting them, and ending all of them."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import structlog
from pydantic import BaseModel, ConfigDict

#: In the environment of every process of a stack, the stack's directory: what a killed
#: supervisor leaves behind is found by it, grandchildren included.
MARKER_VARIABLE: Final = "HEADRACE_STACK"

#: psutil computes the start time from the boot time, which moves when the clock is set.
_CREATE_TIME_TOLERANCE_SECONDS: Final = 2.0
_KILL_WAIT_SECONDS: Final = 10.0

_log = structlog.get_logger()


class ProcessIdentity(BaseModel):
    """One process, told apart from a later one with the same pid."""

    model_config = ConfigDict(frozen=True)

    pid: int
    created: float  #: seconds since 1970

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """Return the identity of the live process `pid`, or None if there is none."""
        try:
            return cls(pid=pid, created=psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """Return the process while it lives; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _CREATE_TIME_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.find() is not None


@dataclass(frozen=True)
class Launch:
    """How to start a program."""

    command: Sequence[str]
    env: Mapping[str, str]  #: the whole environment
    cwd: Path
    uid: int | None = None  #: run as this user and group
    gid: int | None = None


class Child:
    """A running child in a session of its own, with everything that it starts in turn.

    When it ends, what is left of its process group is killed before its pid can be used again.
    """

    def __init__(self, launch: Launch, *, log: Path, on_exit: Callable[[], None]) -> None:
        """Start the program.

        Args:
            launch: what to start.
            log: gets its output.
            on_exit: called once from another thread when it has ended.

        Raises:
            OSError: it cannot be started.
        """
        with log.open("ab") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - commands are the stack's own
                launch.command,
                env=dict(launch.env),
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=launch.uid,
                group=launch.gid,
                extra_groups=[] if launch.uid is not None else None,
            )
        # It cannot have been reaped yet: even if it has ended, it is there as a zombie.
        self.identity = ProcessIdentity(
            pid=self._popen.pid, created=psutil.Process(self._popen.pid).create_time()
        )
        self._exited = threading.Event()
        self._on_exit = on_exit
        threading.Thread(target=self._reap, name=f"reap-{self._popen.pid}", daemon=True).start()

    def _reap(self) -> None:
        pid = self._popen.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self._signal_group(signal.SIGKILL)
        self._popen.wait()
        self._exited.set()
        self._on_exit()

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except (ProcessLookupError, PermissionError):  # all gone; macOS says so with EPERM
            return

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.returncode if self._exited.is_set() else None

    def end(self, number: signal.Signals, *, grace: float, hurry: threading.Event) -> None:
        """Ask it to stop, and kill it with its group when it takes too long.

        Args:
            number: the signal that asks.
            grace: seconds that it gets.
            hurry: ends the wait early.
        """
        deadline = time.monotonic() + grace
        if not self._exited.is_set():
            self._popen.send_signal(number)
        while not self._exited.wait(0.05):
            if hurry.is_set() or time.monotonic() > deadline:
                self._signal_group(signal.SIGKILL)
                self._exited.wait(_KILL_WAIT_SECONDS)
                return


def describe_exit(status: int) -> str:
    """Say in words how a process ended."""
    if status >= 0:
        return f"exited with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


def marked_processes(directory: Path) -> list[psutil.Process]:
    """Return the live processes that belong to the stack in `directory`, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARKER_VARIABLE) == str(directory)
            if marked and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # another user's is never ours
            continue
    return found


def end_processes(
    processes: Iterable[psutil.Process],
    *,
    signals: Mapping[int, int],
    grace: float,
) -> None:
    """End processes that are not our children.

    Args:
        processes: which.
        signals: by pid, the signal that asks it to stop. Processes not named here belong to
            one that is, or to nobody; they are killed if they outlive it.
        grace: seconds before all that is left is killed.
    """
    everything = list(processes)
    asked = [process for process in everything if process.pid in signals]
    for process in asked:
        _send(process, signals[process.pid])
    psutil.wait_procs(asked, timeout=grace)
    left = [process for process in everything if _is_running(process)]
    for process in left:
        _log.warning("local.process_killed", pid=process.pid)
        _send(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=_KILL_WAIT_SECONDS)


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
