"""Prometheus as Debian packages it: promtool for tests of rules, the server for real answers."""

import shutil
from pathlib import Path
from typing import Final

from headrace_local.errors import ToolInstallError
from headrace_local.tools.apt import Apt, require_apt
from headrace_local.tools.install import ensure, run

_PACKAGE: Final = "prometheus"
_PROGRAMS: Final = ("prometheus", "promtool")


def ensure_prometheus() -> Path:
    """Return the directory with `prometheus` and `promtool`, unpacked where they are missing.

    Not installed: that would start a server on Prometheus's own port.

    Raises:
        ToolInstallError: this is no Debian or Ubuntu, or the package cannot be had.
    """
    return ensure("prometheus", "debian", _install) / "root" / "usr" / "bin"


def _install(home: Path) -> None:
    require_apt("Prometheus", otherwise="its rules cannot be tested there")
    archives = home / "archives"
    archives.mkdir(parents=True)
    # Its programs need the C library only; what else it depends on is for its pages.
    archive = Apt(home / "apt", archives).download(_PACKAGE)
    run("dpkg-deb", "--extract", archive, home / "root")
    for program in _PROGRAMS:
        path = home / "root" / "usr" / "bin" / program
        if not path.exists():
            raise ToolInstallError(f"Debian's {_PACKAGE} has no {program}")
        run(path, "--version")
    shutil.rmtree(archives)
    shutil.rmtree(home / "apt", ignore_errors=True)
