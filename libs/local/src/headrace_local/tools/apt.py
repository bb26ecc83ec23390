"""Debian's packages, fetched to be unpacked: no root, and nothing changes on the machine."""

import shutil
from pathlib import Path

from headrace_local.errors import ToolInstallError
from headrace_local.tools.install import run


def require_apt(what: str, *, otherwise: str) -> None:
    """Refuse where this is no Debian or Ubuntu.

    Args:
        what: is wanted.
        otherwise: what to do instead.

    Raises:
        ToolInstallError: apt-get or dpkg-deb is missing.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ToolInstallError(
            f"{what} is taken from Debian's packages, and this machine has no apt-get and "
            f"dpkg-deb; {otherwise}"
        )


class Apt:
    """Fetches packages, with lists of its own where the machine has none."""

    def __init__(self, home: Path, archives: Path) -> None:
        """Make it.

        Args:
            home: for lists of its own; made when they are needed.
            archives: gets the packages.
        """
        self._home = home
        self._archives = archives
        self._own_lists = False

    def download(self, package: str) -> Path:
        """Return the archive of a package.

        Raises:
            ToolInstallError: it cannot be had.
        """
        try:
            return self._download(package)
        except ToolInstallError:
            if self._own_lists:
                raise
        # No lists, as in most container images, or outdated ones. Updating the machine's would
        # need root.
        for name in ("lists/partial", "cache/archives/partial"):
            (self._home / name).mkdir(parents=True)
        self._own_lists = True
        run(*self._command("update"))
        return self._download(package)

    def _download(self, package: str) -> Path:
        before = set(self._archives.iterdir())
        run(*self._command("download"), package, cwd=self._archives)
        return next(path for path in self._archives.iterdir() if path not in before)

    def _command(self, verb: str) -> list[str]:
        # Root's apt would switch to a user of its own, who cannot write here.
        command = ["apt-get", "--quiet", "--quiet", "-o", "APT::Sandbox::User="]
        if self._own_lists:
            command += ["-o", f"Dir::State::Lists={self._home / 'lists'}"]
            command += ["-o", f"Dir::Cache={self._home / 'cache'}"]
        return [*command, verb]
