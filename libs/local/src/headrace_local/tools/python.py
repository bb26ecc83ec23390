"""Tools from the Python package index, each in an environment of its own."""

import sys
from pathlib import Path
from typing import Final

from headrace_local.tools.install import ensure, run

#: Pins botocore tightly, so that it cannot live beside boto3.
MINISTACK: Final = "1.5.33"
_PACKAGE: Final = Path(__file__).parents[1]


def ensure_ministack() -> Path:
    """Install ministack where it is missing, and return the Python that has it.

    Raises:
        ToolInstallError: it could not be installed; the message has the installer's last words.
    """
    return _ensure_environment("ministack", MINISTACK)


def _ensure_environment(tool: str, version: str) -> Path:
    """Make the environment that `TOOL-requirements.txt` describes; return its Python."""
    requirements = _PACKAGE / f"{tool}-requirements.txt"

    def install(home: Path) -> None:
        uv = Path(sys.prefix) / "bin" / "uv"
        if uv.exists():  # several times as fast
            run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, home)
            python = home / "bin" / "python"
            run(uv, "pip", "install", "--quiet", "--python", python, "--requirement", requirements)
        else:
            run(sys.executable, "-m", "venv", home)
            run(
                *(home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"),
                *("--disable-pip-version-check", "--requirement", requirements),
            )

    return ensure(tool, version, install) / "bin" / "python"
