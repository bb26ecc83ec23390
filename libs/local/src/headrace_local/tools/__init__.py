"""Tools that need a place of their own, installed once beside the project's environment."""

from headrace_local.tools.debian import ensure_debian_redis
from headrace_local.tools.faketime import ensure_faketime, faketime_environment, set_clock
from headrace_local.tools.install import TOOLS_VARIABLE, tools_directory
from headrace_local.tools.prometheus import ensure_prometheus
from headrace_local.tools.python import (
    MINISTACK,
    OPENSTACK,
    empty_keystone_database,
    ensure_ministack,
    ensure_openstack,
)

__all__ = [
    "MINISTACK",
    "OPENSTACK",
    "TOOLS_VARIABLE",
    "empty_keystone_database",
    "ensure_debian_redis",
    "ensure_faketime",
    "ensure_ministack",
    "ensure_openstack",
    "ensure_prometheus",
    "faketime_environment",
    "set_clock",
    "tools_directory",
]
