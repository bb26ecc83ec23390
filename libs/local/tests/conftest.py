"""Stacks of a test's own, beside the shared servers, and proof that nothing of them is left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_harness import StartStack

from headrace_local import control
from headrace_local.control import UpResult
from headrace_local.parts import Part
from headrace_local.process import marked_processes


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / ".headrace"


@pytest.fixture
def start_stack(directory: Path) -> Iterator[StartStack]:
    """Starts detached stacks, of the audio path unless told otherwise, and ends them.

    It checks that no process is left.
    """
    used = {directory}

    def start(where: Path = directory, **options: object) -> UpResult:
        used.add(where)
        options = {"parts": [Part.AUDIO], "parent": os.getpid(), **options}
        return control.up_detached(where, **options)  # type: ignore[arg-type]

    yield start
    for where in used:
        control.down(where)
    assert [process for where in used for process in marked_processes(where)] == []
