"""The stack that is watched: the roles of a cluster, and a replica that faults need."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
from headrace_chaos.proxy import Proxy, ProxyHost

from headrace_local import control
from headrace_local import credentials as credentials_file
from headrace_local.layout import StackLayout
from headrace_local.overrides import Overrides
from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalStack
from headrace_local.servers.postgres import Postgres
from headrace_local.services import DEFAULT_SERVICES, DISPATCHER, PREPROCESSOR, ServiceSpec
from headrace_local.state import StackState

SCHEDULER: Final = "scheduler"
#: A second gpu-preprocessor, which leaves as much memory free as the machine has: no job fits.
CROWDED: Final = f"{PREPROCESSOR}-2"

_MIB: Final = 1024 * 1024
#: What is done seldom is done often, so that what it finds shows; all else is as in a local stack.
_SETTINGS: Final = {
    "DEAD_LETTER_INTERVAL_SECONDS": "3",
    "STORAGE_SCAN_SECONDS": "5",
    "INBOX_RETRY_SECONDS": "1",
    "INBOX_MAX_ATTEMPTS": "2",
    # Nine tenths of the work on so short a recording.
    "SPEECH_PLAIN_PLOT": "true",
}


class WatchedStack(LocalStack):
    """A stack whose processes can be frozen, and whose scheduler reaches Postgres over a proxy."""

    def __init__(self, directory: Path, postgres: Proxy) -> None:
        super().__init__(directory)
        self.postgres = postgres

    def freeze(self, name: str) -> None:
        """Stop a process where it is; what it does through children is left half done too."""
        self.kill(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self.kill(name, signal.SIGCONT)


@contextmanager
def watched_stack(directory: Path) -> Iterator[WatchedStack]:
    """Run it: dispatcher and scheduler apart, as on Kubernetes; the crowded replica is stopped."""
    directory = directory.resolve()
    layout = StackLayout(directory)
    layout.create()
    password = credentials_file.load_or_create(layout.credentials).postgres_password
    with ProxyHost() as host:
        proxy = host.add("postgres", reserve_port())

        def lead(state: StackState) -> None:
            proxy.lead_to(state.ports["postgres"])

        control.up_detached(
            directory,
            services=list(_services(Postgres.make_url(password=password, port=proxy.port))),
            parent=os.getpid(),
            overrides=Overrides(settings=_SETTINGS),
            on_change=lead,
        )
        stack = WatchedStack(directory, proxy)
        try:
            stack.stop(CROWDED)
            yield stack
        finally:
            control.down(directory, hurried=True)


def _services(scheduler_database: str) -> Iterator[ServiceSpec]:
    for spec in DEFAULT_SERVICES:
        if spec.name == DISPATCHER:
            yield _with(spec, DISPATCHER_ROLES="lanes")
            own = {"DISPATCHER_ROLES": "scheduler", "DATABASE_URL": scheduler_database}
            other = spec.model_copy(update={"name": SCHEDULER, "endpoint": None})
            yield _with(other, **own)
        elif spec.name == PREPROCESSOR:
            yield spec
            total = psutil.virtual_memory().total // _MIB
            yield _with(spec.replica(2), GPU_MEMORY_RESERVE_MIB=str(total))
        else:
            yield spec


def _with(spec: ServiceSpec, **env: str) -> ServiceSpec:
    return spec.model_copy(update={"env": {**spec.env, **env}})
