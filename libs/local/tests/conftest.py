"""Stacks of a test's own, beside the shared servers, and proof that nothing of them is left."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_local import control
from headrace_local.control import UpResult
from headrace_local.process import marked_processes
from headrace_local.services import ServiceSpec

HTTP_SERVICE = ServiceSpec(
    name="files",
    command=(sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"),
    health_path="/",
    endpoint="files_url",
)

StartStack = Callable[..., UpResult]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / ".headrace"


@pytest.fixture
def start_stack(directory: Path) -> Iterator[StartStack]:
    """Starts detached stacks, ends them, and checks that no process is left."""
    used = {directory}

    def start(where: Path = directory, **options: object) -> UpResult:
        used.add(where)
        return control.up_detached(where, parent=os.getpid(), **options)  # type: ignore[arg-type]

    yield start
    for where in used:
        control.down(where)
    assert [process for where in used for process in marked_processes(where)] == []
