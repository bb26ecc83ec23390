"""The stack under chaos: both halves, several replicas, a proxy in front of every server."""

import os
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from headrace_chaos.bounds import SETTINGS
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.proxy import Proxy, ProxyHost
from headrace_local import control
from headrace_local.channel import order
from headrace_local.errors import LocalStackError
from headrace_local.overrides import Overrides
from headrace_local.parts import ALL_PARTS, Part, servers_of, services_of
from headrace_local.ports import LOOPBACK, choose_ports
from headrace_local.process import MARKER_VARIABLE
from headrace_local.services import ServiceSpec, replicated
from headrace_local.state import ProcessRecord, ProcessState, StackState, load
from headrace_local.tools import faketime_environment, set_clock

#: What services reach through a proxy; servers, and the services that others call.
PROXIED: Final = (
    *("postgres", "valkey", "s3", "sqs", "swift", "keystone"),
    *("results", "analysis-server"),
)
REPLICAS: Final = {"dispatcher": 2, "results": 2, "analysis-server": 2, "ingest-api": 2}


def chosen_specs(
    parts: Sequence[Part] = ALL_PARTS, replicas: Mapping[str, int] = REPLICAS
) -> Sequence[ServiceSpec]:
    """Return the services of a stack, those that have replicas several times."""
    wanted = services_of(parts)
    names = {spec.name for spec in wanted}
    return replicated(wanted, {name: count for name, count in replicas.items() if name in names})


class ChaosStack:
    """Brings the stack up and down, and does things to its processes. A context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        parts: Sequence[Part] = ALL_PARTS,
        replicas: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        faketime: Path | None = None,
        clocked: Collection[str] = (),
    ) -> None:
        """Make it; nothing runs before it is entered.

        Args:
            directory: the stack's own; it must not have one yet.
            parts: halves of the product.
            replicas: how many there are of a service; REPLICAS unless given.
            settings: on top of SETTINGS.
            faketime: the library by which services follow clocks of ours, if there is one.
            clocked: names of the services that do. It makes each wait of a thread cost ten times
                as much, so that a stack of services that all do has time for little else.
        """
        self.directory = directory.resolve()
        self.hosts = ProxyHost()
        self.clocked = list(clocked) if faketime else []
        self._parts = parts
        self._settings = {**SETTINGS, **(settings or {})}
        specs = chosen_specs(parts, REPLICAS if replicas is None else replicas)
        self._specs = [self._with_clock(spec, faketime) for spec in specs]

    def _with_clock(self, spec: ServiceSpec, faketime: Path | None) -> ServiceSpec:
        if faketime is None or spec.name not in self.clocked:
            return spec
        environment = faketime_environment(faketime, self._clock(spec.name))
        return spec.model_copy(update={"env": {**spec.env, **environment}})

    def _clock(self, name: str) -> Path:
        return self.directory / "clocks" / name

    def __enter__(self) -> Self:
        """Start everything, and wait until it is ready."""
        self._clock("").mkdir(parents=True, exist_ok=True)
        for name in self.clocked:
            set_clock(self._clock(name), 0)
        names = [name for name in PROXIED if name in {*self.servers, *self.services}]
        ports = choose_ports(
            dict.fromkeys(names, ()), previous={}, directory=self.directory / "proxies"
        )
        for name in names:
            self.hosts.add(name, ports[name])
        control.up_detached(
            self.directory,
            servers=self.servers,
            services=self._specs,
            parent=os.getpid(),
            overrides=Overrides(settings=self._settings, advertised=ports, tireless=True),
            on_change=self._lead,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wake whatever is frozen, and stop everything."""
        for name in (*self.servers, *self.services):
            self.thaw(name)
        self.hosts.heal()
        control.down(self.directory, hurried=True)
        self.hosts.close()

    def remove_data(self) -> None:
        """Remove what the servers kept; the logs stay."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    @property
    def servers(self) -> Sequence[str]:
        """Names of the servers."""
        return servers_of(self._parts)

    @property
    def services(self) -> Sequence[str]:
        """Names of the services, replicas included."""
        return [spec.name for spec in self._specs]

    @property
    def proxies(self) -> Mapping[str, Proxy]:
        """The proxies, by what is behind them."""
        return self.hosts.proxies

    @property
    def settings(self) -> Mapping[str, str]:
        """What is set otherwise than in a local stack."""
        return self._settings

    def state(self) -> StackState:
        """Return the state as it is now."""
        return control.require_running(self.directory)

    def _lead(self, state: StackState) -> None:
        """Send the proxies on to where things are, which is known once the supervisor is up."""
        for name, proxy in self.proxies.items():
            replicas = [each for each in self.services if each.rpartition("-")[0] == name]
            proxy.lead_to(*(state.ports[each] for each in (name, *replicas)))

    @property
    def endpoints(self) -> Endpoints:
        """Where everything is, past the proxies."""
        state = self.state()
        proxied = {
            f"{LOOPBACK}:{proxy.port}": f"{LOOPBACK}:{state.ports[name]}"
            for name, proxy in self.proxies.items()
        }
        settings = dict(state.env)
        for proxy, real in proxied.items():
            settings = {name: value.replace(proxy, real) for name, value in settings.items()}
        services = {each.name: each.url for each in state.processes if each.kind == "service"}
        swift = f"http://{LOOPBACK}:{state.ports['swift']}" if "swift" in self.servers else ""
        return Endpoints(
            directory=self.directory,
            api_key=state.api_key or "",
            services=services,
            settings=settings,
            swift_url=swift,
            proxied=proxied,
        )

    def record(self, name: str) -> ProcessRecord:
        """Return what is known of a process.

        Raises:
            LocalStackError: there is none of that name.
        """
        state = load(self.directory / "stack.json")
        record = state.process(name) if state else None
        if record is None:
            raise LocalStackError(f"no process called {name!r}")
        return record

    def is_ready(self, name: str) -> bool:
        """Whether a process answers, as far as the supervisor knows."""
        record = self.record(name)
        alive = record.identity is not None and record.identity.is_alive()
        return alive and record.state is ProcessState.READY

    def kill(self, name: str) -> bool:
        """Kill a process, without a word; the supervisor starts it again.

        Returns:
            Whether it ran.
        """
        process = self._process(name)
        if process is None:
            return False
        process.send_signal(signal.SIGKILL)
        return True

    def restart(self, name: str) -> None:
        """Stop a process in order, and start it again.

        Raises:
            LocalStackError: it did not become ready.
        """
        order(self.state(), "restart", [name])

    def freeze(self, name: str) -> bool:
        """Stop a process with all of its children where they are; whether it ran."""
        return self._signal_all(name, signal.SIGSTOP)

    def thaw(self, name: str) -> bool:
        """Let a process and its children go on; whether it ran."""
        return self._signal_all(name, signal.SIGCONT)

    def set_clock(self, name: str, offset_seconds: int) -> None:
        """Have a service see a time that is so many seconds ahead."""
        set_clock(self._clock(name), offset_seconds)

    def _process(self, name: str) -> psutil.Process | None:
        """Return a process of this stack, and no other: by identity and by its mark."""
        identity = self.record(name).identity
        process = identity.find() if identity else None
        return process if process is not None and self._is_ours(process) else None

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(MARKER_VARIABLE) == str(self.directory))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def _signal_all(self, name: str, number: signal.Signals) -> bool:
        process = self._process(name)
        if process is None:
            return False
        for each in (process, *_children(process)):
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        return True


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
