"""The order of tests, and who runs them, where several processes do (pytest-xdist).

A whole stack takes ten seconds of a core to start, and a tenth of a core while it does nothing.
So all files that use the same one are run by the same process, one after the other and first of
all; `pytest_plugin` ends it behind the last of them. Every other file is a unit of its own, in
the order of `testpaths`.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

#: How a file says which stack it uses, by itself or through a helper of its suite.
_USES: Final = {
    "camera_stack": re.compile(r"\bcamera_stack\b"),
    "local_stack": re.compile(r"\blocal_stack\b|\bstack_user\b"),
}


@cache
def stack_of(path: Path) -> str | None:
    """Return the fixture of the stack that the tests of a file use, if they use one."""
    text = path.read_text()
    return next((name for name, uses in _USES.items() if uses.search(text)), None)


class _ByStack(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out files; those that share a stack together."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return stack_of(self.config.rootpath / file) or file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByStack | None:
    """Hand out files by stack where files are what is handed out."""
    return _ByStack(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the users of each stack side by side, before all others."""
    order = [*_USES, None]
    items.sort(key=lambda item: order.index(stack_of(item.path)))
