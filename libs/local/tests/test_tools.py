"""Tools: installed once, by one process at a time, and usable."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from headrace_local import tools
from headrace_local.errors import ToolInstallError
from headrace_local.tools import install
from headrace_local.waiting import wait_until

_INSTALL = "from headrace_local import tools; print(tools.ensure_ministack())"


@pytest.mark.slow
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


def test_what_failed_is_installed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tools.TOOLS_VARIABLE, str(tmp_path))

    def fail(home: Path) -> None:
        home.mkdir()
        (home / "half").touch()
        install.run("sh", "-c", "echo its last words; exit 1")

    with pytest.raises(ToolInstallError, match="its last words"):
        install.ensure("tool", "1", fail)
    home = install.ensure("tool", "1", Path.mkdir)
    again = install.ensure("tool", "1", fail)

    assert home == again == tmp_path / "tool" / "1"
    assert not (home / "half").exists()


def test_a_missing_installer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tools.TOOLS_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ToolInstallError, match="apt-get"):
        tools.ensure_debian_redis()


def _answers(socket: Path) -> bool:
    """Whether a server does: the file of a socket is there before anybody listens on it."""
    try:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_debians_redis_serves_without_being_installed(tmp_path: Path) -> None:
    server = tools.ensure_debian_redis()
    socket = tmp_path / "redis.sock"
    command = [str(server), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", "."]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            wait_until(lambda: _answers(socket))
            with redis.Redis(unix_socket_path=str(socket)) as client:
                assert client.info("server")["redis_version"].startswith("7.")
            words = [str(server.with_name("redis-cli")), "-s", str(socket), "ping"]
            said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        finally:
            process.terminate()
    assert said == "PONG\n"
    assert process.returncode == 0


def test_a_program_follows_a_clock_of_ours_and_its_children_do_not(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    tools.set_clock(clock, 7_200)
    environment = tools.faketime_environment(tools.ensure_faketime(), clock)
    asked = "import time; print(time.time())"
    program = (
        "import subprocess, sys, time\n"
        "began = time.monotonic(); time.sleep(0.2); print(time.monotonic() - began)\n"
        "print(time.time(), flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {asked!r}])"
    )
    words = [sys.executable, "-c", program]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    slept, ahead, true = (float(line) for line in said.split())

    assert 0.2 <= slept < 60
    assert ahead - time.time() == pytest.approx(7_200, abs=60)
    assert true - time.time() == pytest.approx(0, abs=60)
