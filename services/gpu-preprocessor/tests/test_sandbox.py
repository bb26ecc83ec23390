"""The decoder's process can do nothing but decode."""

import subprocess
import sys
import textwrap

import pytest

_START = """
import ctypes, os, resource, socket, subprocess, sys, threading
from headrace_gpu_preprocessor.decoder.sandbox import close_off, limit_resources
pair = socket.socketpair()
limit_resources(memory_bytes=300_000_000, cpu_seconds=20)
assert close_off()
def refused(call):
    try:
        call()
    except PermissionError:
        return
    raise SystemExit("not refused")
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "refused(lambda: socket.socket())",
        "refused(lambda: socket.socket(socket.AF_UNIX))",
        "refused(lambda: pair[0].connect('/run/x'))",
        "refused(lambda: open('/etc/hostname'))",
        "refused(lambda: open('/proc/self/environ'))",
        "refused(lambda: os.unlink('/tmp/none'))",
        "refused(lambda: os.kill(os.getppid(), 0))",
        "refused(lambda: os.execv('/bin/true', ['true']))",
        "assert ctypes.CDLL(None).syscall(425, 1, 0) == -1  # io_uring_setup",
        "bytearray(100_000_000)",
        "threads = [threading.Thread(target=int) for _ in range(3)]; [t.start() for t in threads]",
        "pair[0].sendall(b'x'); assert pair[1].recv(1) == b'x'",
    ],
)
def test_what_is_refused_and_what_works(attempt: str) -> None:
    done = _run(attempt)
    assert done.returncode == 0, done.stderr


def test_memory_ends_at_the_limit() -> None:
    assert "MemoryError" in _run("bytearray(400_000_000)").stderr


def _run(attempt: str) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(_START) + attempt
    return subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
