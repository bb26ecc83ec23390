"""Tools that need an environment of their own, installed once beside the project's."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from headrace_local.errors import ToolInstallError

TOOLS_VARIABLE: Final = "HEADRACE_TOOLS"
#: Pins botocore tightly, so that it cannot live beside boto3.
MINISTACK: Final = "1.5.33"
_REQUIREMENTS: Final = Path(__file__).with_name("ministack-requirements.txt")
_INSTALL_TIMEOUT_SECONDS: Final = 600

_log = structlog.get_logger()


def tools_directory() -> Path:
    """Return where tools are kept: HEADRACE_TOOLS, else `.tools` beside the environment."""
    given = os.environ.get(TOOLS_VARIABLE)
    return Path(given).expanduser().resolve() if given else Path(sys.prefix).parent / ".tools"


def ensure_ministack() -> Path:
    """Install ministack where it is missing, and return the Python that has it.

    Raises:
        ToolInstallError: it could not be installed; the message has the installer's last words.
    """
    home = tools_directory() / "ministack" / MINISTACK
    python, finished = home / "bin" / "python", home / ".installed"
    if finished.exists():
        return python
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.parent / f"{MINISTACK}.lock"):
        if not finished.exists():  # nobody else did it meanwhile
            _log.info("local.tool_installing", tool="ministack", version=MINISTACK)
            shutil.rmtree(home, ignore_errors=True)  # one that was interrupted
            _run(sys.executable, "-m", "venv", str(home))
            _run(
                *(str(python), "-m", "pip", "install", "--quiet", "--no-input"),
                *("--disable-pip-version-check", "--requirement", str(_REQUIREMENTS)),
            )
            finished.touch()
    return python


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the other processes that do the same; the lock ends with its holder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    try:
        subprocess.run(  # noqa: S603 - our own command
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise ToolInstallError(f"{' '.join(command)}: {error.stdout.strip()[-1000:]}") from None
    except subprocess.TimeoutExpired:
        raise ToolInstallError(f"{' '.join(command)}: took over 10 minutes") from None
