"""Which build a process is of, so that a dashboard shows how far a roll-out has come."""

import platform
from importlib.metadata import version
from typing import Final

from prometheus_client import Gauge

_BUILD: Final = Gauge(
    "headrace_build_info",
    "Always 1: version and commit that this process runs, and its Python",
    ["version", "revision", "python_version"],
)


def tell_build(revision: str) -> None:
    """Say that this process's image was built from the commit `revision`."""
    _BUILD.labels(
        version=version("headrace-common"),
        revision=revision,
        python_version=platform.python_version(),
    ).set(1)
