"""Running a program as another user when we are root (PostgreSQL refuses, OpenStack need not).

The other user has to reach the program and its data. When the project or the environment lies
below a closed directory such as /root, no file mode within our reach allows that, so the
program keeps one privilege of root: to read and to pass through directories
(CAP_DAC_READ_SEARCH). It can write nowhere but in what it owns.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace_local.errors import LocalStackError

_USER: Final = "nobody"


@dataclass(frozen=True)
class Identity:
    """Whom a program runs as.

    Attributes:
        uid: user id; None: the same as we.
        gid: group id, likewise.
        prefix: put before the command.
    """

    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()

    def own(self, path: Path) -> None:
        """Give a file or directory to the program."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def command(self, *words: str | Path) -> list[str]:
        """Return the command that starts the program."""
        return [*self.prefix, *map(str, words)]

    @property
    def spawn_uid(self) -> int | None:
        """User id to switch to at the start; None when the prefix does it."""
        return None if self.prefix else self.uid

    @property
    def spawn_gid(self) -> int | None:
        """Group id, likewise."""
        return None if self.prefix else self.gid


def without_root(paths: Iterable[Path], *, program: str) -> Identity:
    """Choose whom a program that is not to be root runs as.

    Args:
        paths: what it has to reach.
        program: what it is called in the error.

    Raises:
        LocalStackError: a path cannot be reached, and `setpriv` (util-linux) is missing.
    """
    if os.geteuid() != 0:
        return Identity()
    user = pwd.getpwnam(_USER)
    # An environment's Python is a link, often into the home of whoever made it.
    ways = (way for path in paths for way in (path, path.resolve()))
    closed = next((parent for way in ways for parent in way.parents if not _open(parent)), None)
    if closed is None:
        return Identity(user.pw_uid, user.pw_gid)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalStackError(
            f"{program} does not run as root, and the user {_USER!r} cannot pass {closed}: "
            "install setpriv (util-linux), open that directory, or do not run as root"
        )
    return Identity(user.pw_uid, user.pw_gid, _prefix(setpriv, user))


def _open(directory: Path) -> bool:
    """Whether everybody may pass through a directory."""
    return bool(directory.stat().st_mode & stat.S_IXOTH)


def _prefix(setpriv: str, user: pwd.struct_passwd) -> tuple[str, ...]:
    keep = "-all,+dac_read_search"
    return (
        setpriv,
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--inh-caps={keep}",
        f"--ambient-caps={keep}",
        # access(2), by which initdb looks for its programs, heeds the capability only with it.
        "--securebits=+no_setuid_fixup",
        "--",
    )
