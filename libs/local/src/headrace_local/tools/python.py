"""Tools from the Python package index, each in an environment of its own."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from headrace_local.tools.install import ensure, run

#: Pins botocore tightly, so that it cannot live beside boto3.
MINISTACK: Final = "1.5.33"
#: Swift's version; Keystone and a hundred packages with old habits come along.
OPENSTACK: Final = "2.38.3"
_PACKAGE: Final = Path(__file__).parents[1]

_KEYSTONE_CONFIGURATION: Final = """\
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{database}
"""


def ensure_ministack() -> Path:
    """Install ministack where it is missing, and return the Python that has it.

    Raises:
        ToolInstallError: it could not be installed; the message has the installer's last words.
    """
    return ensure("ministack", MINISTACK, _environment("ministack")) / "bin" / "python"


def ensure_openstack() -> Path:
    """Install Swift and Keystone where they are missing, and return the Python that has them.

    Raises:
        ToolInstallError: they could not be installed; the message has the installer's last words.
    """
    make_environment = _environment("openstack")

    def install(home: Path) -> None:
        make_environment(home)
        _make_keystone_database(home)

    return ensure("openstack", OPENSTACK, install) / "bin" / "python"


def empty_keystone_database(python: Path) -> Path:
    """Return Keystone's database with all tables and no rows, to be copied by each stack.

    Args:
        python: the one of `ensure_openstack`.
    """
    return python.parents[1] / "keystone-empty.db"


def _make_keystone_database(home: Path) -> None:
    """Run Keystone's migrations once, which takes seconds."""
    configuration = home / "keystone-empty.conf"
    database = empty_keystone_database(home / "bin" / "python")
    configuration.write_text(_KEYSTONE_CONFIGURATION.format(database=database))
    run(home / "bin" / "keystone-manage", "--config-file", configuration, "db_sync")


def _environment(tool: str) -> Callable[[Path], None]:
    """Return what makes the environment that `TOOL-requirements.txt` describes."""
    requirements = _PACKAGE / f"{tool}-requirements.txt"

    def install(home: Path) -> None:
        uv = Path(sys.prefix) / "bin" / "uv"
        if uv.exists():  # several times as fast
            run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, home)
            run(
                *(uv, "pip", "install", "--quiet", "--compile-bytecode"),
                *("--python", home / "bin" / "python", "--requirement", requirements),
            )
        else:
            run(sys.executable, "-m", "venv", home)
            run(
                *(home / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"),
                *("--disable-pip-version-check", "--requirement", requirements),
            )

    return install
