"""A share of a core for a process and all that it starts, as a container's CPU limit gives it."""

import contextlib
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil

_VERSION_1: Final = Path("/sys/fs/cgroup/cpu")
_VERSION_2: Final = Path("/sys/fs/cgroup")
#: What Kubernetes sets.
_PERIOD_MICROSECONDS: Final = 100_000
#: Of its weight by itself: it gets its share, whoever else is busy, as by a request in Kubernetes
#: that is as high as the limit.
_WEIGHT: Final = 10
_REMOVE_SECONDS: Final = 5.0


class NoCpuShareError(Exception):
    """This machine lets us hold no process to a share of a core."""


class CpuShare:
    """A control group with a CPU limit."""

    def __init__(self, cores: float) -> None:
        """Make it, without anybody in it.

        Args:
            cores: how many of them its members may use together.

        Raises:
            NoCpuShareError: there are no control groups that we may make, of either version.
        """
        quota = int(cores * _PERIOD_MICROSECONDS)
        name = f"headrace-{uuid4().hex[:8]}"
        refused = []
        for parent, settings in (
            (
                _VERSION_1,
                {
                    "cpu.cfs_period_us": f"{_PERIOD_MICROSECONDS}",
                    "cpu.cfs_quota_us": f"{quota}",
                    "cpu.shares": f"{_WEIGHT * 1024}",
                },
            ),
            (
                _VERSION_2,
                {"cpu.max": f"{quota} {_PERIOD_MICROSECONDS}", "cpu.weight": f"{_WEIGHT * 100}"},
            ),
        ):
            group = parent / name
            try:
                group.mkdir()
                for file, value in settings.items():
                    # Never made where the kernel has not: that would be a file of ours.
                    with (group / file).open("r+") as setting:
                        setting.write(value)
            except OSError as error:
                refused.append(f"{parent}: {error.strerror or error}")
                with contextlib.suppress(OSError):
                    group.rmdir()
                continue
            self._group = group
            return
        raise NoCpuShareError("; ".join(refused))

    def hold(self, process: psutil.Process) -> None:
        """Take a process in, with its children; what they start from now on is in it too."""
        members = self._group / "cgroup.procs"
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(ProcessLookupError):
                members.write_text(str(each.pid))

    def close(self) -> None:
        """Remove it, once all of its members have ended.

        Raises:
            OSError: they have not.
        """
        deadline = time.monotonic() + _REMOVE_SECONDS
        while True:
            try:
                self._group.rmdir()
            except OSError:
                # The kernel needs a moment to see that nobody is in there any more.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def why_no_share() -> str | None:
    """Return why no process can be held to a share of a core here; None if it can."""
    try:
        CpuShare(1).close()
    except NoCpuShareError as error:
        return str(error)
    return None
