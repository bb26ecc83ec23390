"""libfaketime as Debian packages it, for programs that see another time than the machine's."""

import shutil
from pathlib import Path
from typing import Final

from headrace_local.errors import ToolInstallError
from headrace_local.tools.apt import Apt, require_apt
from headrace_local.tools.install import ensure, run

_PACKAGE: Final = "libfaketime"
#: For programs with threads.
_LIBRARY: Final = "libfaketimeMT.so.1"
_SITE: Final = Path(__file__).with_name("faketime_site")


def ensure_faketime() -> Path:
    """Return the library to preload, unpacked where it is missing.

    Raises:
        ToolInstallError: this is no Debian or Ubuntu, or the package cannot be had.
    """
    home = ensure("faketime", "debian", _install)
    return next(home.rglob(_LIBRARY))


def _install(home: Path) -> None:
    require_apt("libfaketime", otherwise="clocks cannot be set there")
    archives = home / "archives"
    archives.mkdir(parents=True)
    archive = Apt(home / "apt", archives).download(_PACKAGE)
    run("dpkg-deb", "--extract", archive, home / "root")
    if not list(home.rglob(_LIBRARY)):
        raise ToolInstallError(f"Debian's {_PACKAGE} has no {_LIBRARY}")
    shutil.rmtree(archives)
    shutil.rmtree(home / "apt", ignore_errors=True)


def faketime_environment(library: Path, clock: Path) -> dict[str, str]:
    """Return what a Python program needs in its environment to follow a clock of ours.

    Its monotonic clock stays true, and so do the times of files and all clocks of its children.
    The library looks at the file once a second.

    Args:
        library: from `ensure_faketime`.
        clock: file with the offset in seconds, see `set_clock`.
    """
    return {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(_SITE),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        # Processes that are killed would leave theirs behind.
        "FAKETIME_DISABLE_SHM": "1",
    }


def set_clock(clock: Path, offset_seconds: int) -> None:
    """Have the programs that follow this clock see the true time and so many seconds."""
    new = clock.with_suffix(".new")
    new.write_text(f"{offset_seconds:+d}\n")
    new.replace(clock)
