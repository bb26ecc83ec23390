"""The one process that starts, watches and stops the others."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from headrace_local import credentials as credentials_file
from headrace_local import logs, servers
from headrace_local.channel import Order, OrderServer
from headrace_local.environment import (
    base_environment,
    queue_settings,
    server_settings,
    service_settings,
)
from headrace_local.errors import LocalStackError, NoStackError, StartFailedError
from headrace_local.layout import StackLayout
from headrace_local.leftovers import end_leftovers
from headrace_local.lock import StackLock
from headrace_local.overrides import NONE, Overrides
from headrace_local.ports import Offsets, choose_ports
from headrace_local.process import ProcessIdentity
from headrace_local.program import Program, Server
from headrace_local.provision import Provisioner
from headrace_local.services import ANALYSIS, DEFAULT_SERVICES, RESULTS, Service, ServiceSpec
from headrace_local.state import Phase, ProcessState, StackState, load
from headrace_local.unit import RestartPolicy, Unit

if TYPE_CHECKING:
    from headrace_common.sqs import QueueUrls

OnChange = Callable[[StackState], None]

_TICK_SECONDS: Final = 0.5
#: Ticks between two looks at the size of the logs.
_LOG_CHECK_TICKS: Final = 20

_log = structlog.get_logger()


@dataclass(frozen=True)
class StackOptions:
    """What to run.

    Attributes:
        directory: the stack's, absolute.
        servers: names of the servers to run.
        services: the services to run on them.
        held: start nothing until it is ordered.
        parent: stop when this process is gone.
        overrides: what is otherwise than the stack has it by itself.
    """

    directory: Path
    servers: Sequence[str] = servers.SERVER_NAMES
    services: Sequence[ServiceSpec] = DEFAULT_SERVICES
    held: bool = False
    parent: ProcessIdentity | None = None
    overrides: Overrides = NONE


class Supervisor:
    """Runs one stack from start to end."""

    def __init__(self, options: StackOptions, *, on_change: OnChange | None = None) -> None:
        """Make it; `run` does the work.

        Args:
            options: what to run.
            on_change: gets the state at each change; called from any thread, one at a time.
        """
        self._options = options
        self._on_change = on_change or (lambda _: None)
        self._layout = StackLayout(options.directory)
        self._publishing = threading.Lock()
        self._stop = threading.Event()
        self._units: dict[str, Unit] = {}
        self._servers: dict[str, Server] = {}
        self._queues: QueueUrls | None = None
        self._state = StackState(
            directory=options.directory, phase=Phase.STARTING, started_at=datetime.now(UTC)
        )

    def run(self, stop: threading.Event, hurry: threading.Event) -> StackState:
        """Run until `stop` is set.

        Args:
            stop: begins the orderly stop.
            hurry: ends all grace.

        Raises:
            AlreadyRunningError: another supervisor has the directory.
            StartFailedError: a process did not become ready; everything is stopped again.
        """
        self._stop = stop
        self._layout.create()
        with StackLock(self._layout.lock):
            self._set_up()
            orders = OrderServer(self._carry_out)
            self._publish(control=orders.address)
            phase, problem = Phase.STOPPED, None
            try:
                self._start(stop)
                self._watch(stop, hurry)
            except LocalStackError as error:
                phase, problem = Phase.FAILED, error.detail
                raise
            finally:
                orders.close()
                self._publish(phase=Phase.STOPPING)
                self._stop_all(hurry)
                self._publish(phase=phase, error=problem, supervisor=None, control=None)
        return self._state

    def _set_up(self) -> None:
        """Clear away what is left of the run before, and prepare this one."""
        previous = load(self._layout.state)
        end_leftovers(self._layout)
        self._credentials = credentials_file.load_or_create(self._layout.credentials)
        environment = base_environment(self._options.directory)
        every_server = servers.make_servers(
            self._layout, self._credentials, environment, self._options.overrides.advertised
        )
        services = [
            Service(spec, self._options.directory, lambda: {**environment, **self._settings()})
            for spec in self._options.services
        ]
        self._ports = choose_ports(
            _wanted_ports([*every_server, *services]),
            previous=previous.ports if previous else {},
            directory=self._options.directory,
        )
        for program in (*every_server, *services):
            program.use_ports(self._ports)
        names = _with_needed(self._options.servers, every_server)
        chosen = [each for each in every_server if each.name in names]
        self._servers = {server.name: server for server in chosen}
        self._units = {each.name: self._unit(each) for each in (*chosen, *services)}
        self._state.supervisor = ProcessIdentity.of(os.getpid())

    def _unit(self, program: Program) -> Unit:
        log = self._layout.log(program.name)
        logs.rotate(log)
        return Unit(
            program,
            log=log,
            on_change=self._publish,
            after_ready=partial(self._provision, program.name),
            policy=RestartPolicy(tireless=self._options.overrides.tireless),
        )

    def _provision(self, name: str) -> None:
        """Give the server of that name what services need of it."""
        if name not in self._servers:
            return
        provisioner = Provisioner(self._credentials, self._layout.credentials)
        self._queues = provisioner.run(self._servers[name]) or self._queues

    def _start(self, stop: threading.Event) -> None:
        for kind in () if self._options.held else ("server", "service"):
            if not stop.is_set():
                units = [unit for unit in self._units.values() if unit.program.kind == kind]
                _start_all(units, stop)
        if not stop.is_set():
            self._publish(phase=Phase.READY)

    def _watch(self, stop: threading.Event, hurry: threading.Event) -> None:
        tick = 0
        while not stop.wait(_TICK_SECONDS):
            tick += 1
            parent = self._options.parent
            if parent is not None and not parent.is_alive():
                _log.warning("local.parent_gone", pid=parent.pid)
                hurry.set()
                stop.set()
            if tick % _LOG_CHECK_TICKS == 0:
                for unit in self._units.values():
                    logs.bound(unit.record.log_path)

    def _stop_all(self, hurry: threading.Event) -> None:
        """Stop the services one after the other from the last, then all servers at once."""
        units = list(self._units.values())[::-1]
        for unit in units:
            if unit.program.kind == "service":
                unit.stop(hurry=hurry)
        for unit in units:
            unit.request_stop()
        for unit in units:
            unit.stop(hurry=hurry)

    def _carry_out(self, order: Order) -> None:
        """Start, stop or restart the processes that an order names."""
        if self._stop.is_set():
            raise LocalStackError("the stack is stopping")
        unknown = [name for name in order["names"] if name not in self._units]
        if unknown:
            raise NoStackError(f"no process called {', '.join(unknown)} in this stack")
        names = order["names"]
        if order["do"] in {"stop", "restart"}:
            for name in names:
                self._units[name].stop()
        if order["do"] in {"start", "restart"}:
            needed = _with_needed(names, list(self._servers.values()))
            _start_all([self._units[name] for name in needed], self._stop)
        # Each unit publishes its change a moment after it; whoever ordered it may look at once.
        self._publish()

    def _settings(self) -> dict[str, str]:
        """Return what every service gets, as far as it is known by now."""
        overrides = self._options.overrides
        ports = {**self._ports, **overrides.advertised}
        queues = queue_settings(self._queues, port=ports["sqs"]) if self._queues else {}
        return {
            **server_settings(ports, self._credentials),
            **service_settings(ports, self._credentials),
            **queues,
            **overrides.settings,
        }

    def _endpoints(self) -> dict[str, str]:
        return {
            unit.program.spec.endpoint: unit.program.url
            for unit in self._units.values()
            if isinstance(unit.program, Service) and unit.program.spec.endpoint
        }

    def _publish(self, **changes: object) -> None:
        """Write the state down and tell whoever listens."""
        with self._publishing:
            derived = {
                "processes": [unit.record for unit in self._units.values()],
                "ports": self._ports,
                "endpoints": self._endpoints(),
                "env": self._settings(),
                "api_key": self._credentials.api_key,
            }
            self._state = self._state.model_copy(update={**derived, **changes})
            self._state.save(self._layout.state)
            self._on_change(self._state)


def _wanted_ports(programs: Sequence[Program]) -> dict[str, Offsets]:
    """Return every port to choose; services that do not run have theirs in the settings too."""
    wanted: dict[str, Offsets] = {RESULTS: (), ANALYSIS: ()}
    for program in programs:
        wanted |= program.wanted_ports()
    return wanted


def _with_needed(names: Sequence[str], among: Sequence[Server]) -> list[str]:
    """Add to `names` the servers that these do not become ready without."""
    needs = {server.name: server.needs for server in among}
    return list(dict.fromkeys(each for name in names for each in (*needs.get(name, ()), name)))


def _start_all(units: Sequence[Unit], stop: threading.Event) -> None:
    """Start processes at the same time, and wait until they are ready or `stop` is set.

    Raises:
        StartFailedError: one of them failed.
    """
    for unit in units:
        unit.start()
    records = [unit.wait_settled(stop) for unit in units]
    failed = [record for record in records if record.state is ProcessState.FAILED]
    if failed:
        raise StartFailedError(
            "\n".join(f"{record.name} did not start: {record.error}" for record in failed)
        )
