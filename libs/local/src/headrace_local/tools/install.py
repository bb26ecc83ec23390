"""Installing a tool: once, by one process at a time, whole or not at all."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from headrace_local.errors import ToolInstallError

TOOLS_VARIABLE: Final = "HEADRACE_TOOLS"
_FINISHED: Final = ".installed"
_TIMEOUT_SECONDS: Final = 600
#: How much of what an installer said goes into the error.
_LAST_WORDS: Final = 1_000

_log = structlog.get_logger()


def tools_directory() -> Path:
    """Return where tools are kept: HEADRACE_TOOLS, else `.tools` beside the environment."""
    given = os.environ.get(TOOLS_VARIABLE)
    return Path(given).expanduser().resolve() if given else Path(sys.prefix).parent / ".tools"


def ensure(tool: str, version: str, install: Callable[[Path], None]) -> Path:
    """Install a version of a tool where it is missing, and return its directory.

    Args:
        tool: its name.
        version: tells one content of the directory from another.
        install: fills the directory, which does not exist yet. What it leaves when it fails
            or is killed is removed by the next one.

    Raises:
        ToolInstallError: as `install` raises it.
    """
    home = tools_directory() / tool / version
    finished = home / _FINISHED
    if finished.exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.parent / f"{version}.lock"):
        if not finished.exists():  # nobody else did it meanwhile
            _log.info("local.tool_installing", tool=tool, version=version)
            shutil.rmtree(home, ignore_errors=True)  # one that was interrupted
            install(home)
            finished.touch()
    return home


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the other processes that do the same; the lock ends with its holder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a step of an installation, and return what it said.

    Raises:
        ToolInstallError: it failed, with its last words; or there is no such program.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            words,
            check=True,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise ToolInstallError(f"there is no program {words[0]}") from None
    except subprocess.CalledProcessError as error:
        last = error.stdout.strip()[-_LAST_WORDS:]
        raise ToolInstallError(f"{' '.join(words)}: {last}") from None
    except subprocess.TimeoutExpired:
        raise ToolInstallError(f"{' '.join(words)}: took over 10 minutes") from None
    return done.stdout
