"""The order of tests, and who runs them, where several processes do (pytest-xdist).

A whole stack takes ten seconds of a core to start, and a tenth of a core while it does nothing;
Swift and Keystone take eight to start. So all files that use the same one are run by the same
process, one after the other and first of all; `pytest_plugin` ends a stack behind the last of
them. Every other file is a unit of its own, in the order of `testpaths`.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadFileScheduling

#: How a file says that it uses what is dear, by itself or through a helper of its suite.
_USES: Final = {
    "camera_stack": re.compile(r"\bcamera_stack\b"),
    "local_stack": re.compile(r"\blocal_stack\b|\bstack_user\b"),
    "swift": re.compile(r"\b(make_)?swift_store\b|\bswift_settings\b|require\([^)]*\"swift\""),
}


@cache
def dear_to(path: Path) -> str | None:
    """Return what the tests of a file use that is dear to start, if they use any such thing."""
    text = path.read_text()
    return next((name for name, uses in _USES.items() if uses.search(text)), None)


class _Sharing(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out files; those that share what is dear together."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return dear_to(self.config.rootpath / file) or file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Sharing | None:
    """Hand out what shares something together, where files are what is handed out."""
    return _Sharing(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those that share something side by side, before all others."""
    order = [*_USES, None]
    items.sort(key=lambda item: order.index(dear_to(item.path)))
