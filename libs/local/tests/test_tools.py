"""The environment of the SQS emulator: installed once, and by one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace_local import tools

pytestmark = pytest.mark.slow

_INSTALL = "from headrace_local import tools; print(tools.ensure_ministack())"


def test_two_processes_install_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tools.TOOLS_VARIABLE, str(tmp_path))
    home = tmp_path / "ministack" / tools.MINISTACK
    home.mkdir(parents=True)
    (home / "half").touch()  # an installation that was interrupted

    processes = [
        subprocess.Popen([sys.executable, "-c", _INSTALL], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=280)[0].splitlines() for process in processes]

    assert sum("local.tool_installing" in "\n".join(lines) for lines in answers) == 1
    assert {lines[-1] for lines in answers} == {str(home / "bin" / "python")}
    assert not (home / "half").exists()
    version = "from importlib.metadata import version; print(version('ministack'))"
    done = subprocess.run(
        [home / "bin" / "python", "-c", version], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == tools.MINISTACK
