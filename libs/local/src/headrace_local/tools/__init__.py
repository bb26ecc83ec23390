"""Tools that need a place of their own, installed once beside the project's environment."""

from headrace_local.tools.debian import ensure_debian_redis
from headrace_local.tools.install import TOOLS_VARIABLE, tools_directory
from headrace_local.tools.python import MINISTACK, ensure_ministack

__all__ = [
    "MINISTACK",
    "TOOLS_VARIABLE",
    "ensure_debian_redis",
    "ensure_ministack",
    "tools_directory",
]
