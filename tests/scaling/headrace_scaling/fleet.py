"""The local stack with spare replicas, scaled and replaced as Kubernetes does with Deployments."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from headrace_local import control
from headrace_local.channel import order
from headrace_local.errors import LocalStackError
from headrace_local.overrides import Overrides
from headrace_local.parts import ALL_PARTS, Part, servers_of
from headrace_local.services import ANALYSIS, RESULTS, ServiceSpec, replicated
from headrace_local.state import ProcessRecord, StackState
from headrace_scaling.balancer import Balancer, Probes
from headrace_scaling.cpu import CpuShare
from headrace_scaling.deployments import SCHEDULER, deployments, names_of
from headrace_scaling.processes import find, signal_all

__all__ = ["SCHEDULER", "Fleet", "deployments"]

#: Replicas of a service that run at the same time, where nothing else is said.
MOST: Final = 2
#: Shorter than in k8s/base: all addresses here are changed at once.
PRE_STOP_SECONDS: Final = 1.0


class Fleet:
    """Brings servers up, and services in as many replicas as wanted. A context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        parts: Sequence[Part] = ALL_PARTS,
        most: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        environment: Callable[[ServiceSpec], Mapping[str, str]] | None = None,
        pre_stop_seconds: float = PRE_STOP_SECONDS,
        probes: Probes | None = None,
    ) -> None:
        """Make it; nothing runs before it is entered, and no service before `scale`.

        Args:
            directory: the stack's own; it must not have one yet.
            parts: halves of the product.
            most: by service, replicas that run at the same time; MOST unless given. There is one
                name more, for the new one while an old one is replaced.
            settings: of every service.
            environment: returns what a replica gets besides, whose name is in the spec.
            pre_stop_seconds: from when no new connection goes to a replica until it is told to
                stop.
            probes: of readiness.
        """
        self.directory = directory.resolve()
        self.pre_stop_seconds = pre_stop_seconds
        self._settings = dict(settings or {})
        self._parts = parts
        self._probes = probes
        once = deployments(parts)
        self.services = [spec.name for spec in once]
        counts = {name: (most or {}).get(name, MOST) + 1 for name in self.services}
        each = environment or (lambda _: {})
        self._specs = [
            spec.model_copy(update={"env": {**spec.env, **each(spec)}})
            for spec in replicated(once, counts)
        ]
        names = [spec.name for spec in self._specs]
        #: Those that do not run, in the order in which they are taken: who ran last comes last.
        self._spare = {service: names_of(service, names) for service in self.services}
        self._running: dict[str, list[str]] = {service: [] for service in self.services}
        self._shares: dict[str, CpuShare] = {}

    def __enter__(self) -> Self:
        """Start the servers, and open the addresses of the services."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._balancer = Balancer(
            self.services,
            self.directory,
            look=partial(control.status, self.directory),
            probes=self._probes,
        )
        ports = self._balancer.ports
        advertised = {name: ports[name] for name in (RESULTS, ANALYSIS) if name in ports}
        try:
            control.up_detached(
                self.directory,
                servers=servers_of(self._parts),
                services=self._specs,
                held=True,
                parent=os.getpid(),
                overrides=Overrides(settings=self._settings, advertised=advertised, tireless=True),
            )
            self.start(*servers_of(self._parts))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wake whatever is frozen, and stop everything."""
        for names in self._running.values():
            for name in names:
                self.thaw(name)
        control.down(self.directory, hurried=True)
        for share in self._shares.values():
            share.close()
        self._balancer.close()

    def state(self) -> StackState:
        """Return the state of the stack as it is now."""
        return control.require_running(self.directory)

    @property
    def settings(self) -> Mapping[str, str]:
        """What every service gets as its environment: where the servers are, and so on."""
        return self.state().env

    @property
    def api_key(self) -> str:
        """A key with every scope."""
        key = self.state().api_key
        if key is None:
            raise LocalStackError("the stack has no API key")
        return key

    def service(self, service: str) -> str:
        """Return the base URL of a service: the address of its balancer."""
        return self._balancer.url(service)

    def running(self, service: str) -> list[str]:
        """Return the names of the replicas that run, and are not being stopped."""
        return list(self._running[service])

    def names(self, service: str) -> list[str]:
        """Return the names of all replicas that there may be."""
        return names_of(service, [spec.name for spec in self._specs])

    def behind(self, service: str) -> list[str]:
        """Return the names of the replicas that new connections go to now."""
        return self._balancer.behind(service)

    def url(self, name: str) -> str:
        """Return the base URL of one replica, past the balancer."""
        return self.record(name).url

    def record(self, name: str) -> ProcessRecord:
        """Return what is known of a process.

        Raises:
            LocalStackError: there is none of that name.
        """
        record = self.state().process(name)
        if record is None:
            raise LocalStackError(f"no process called {name!r}")
        return record

    def hold(self, service: str, cores: float) -> None:
        """Hold each replica that runs, and is not held yet, to a share of a core.

        For when they are ready: starting takes seconds of CPU.

        Raises:
            NoCpuShareError: that cannot be done here.
        """
        for name in self._running[service]:
            process = self._process(name)
            if name not in self._shares and process is not None:
                share = self._shares[name] = CpuShare(cores)
                share.hold(process)

    def start(self, *names: str) -> None:
        """Start processes by name, and wait until they are ready."""
        order(self.state(), "start", names)

    def scale(self, service: str, count: int, *, names: Sequence[str] = ()) -> list[str]:
        """Have so many replicas, like `kubectl scale`, and wait until it is so.

        The youngest go first. Each is taken out of the balancer, and told to stop after the
        pre-stop pause; all that go do so at the same time.

        Args:
            service: which.
            count: how many are to run.
            names: which spare ones to start; the next ones unless given.

        Returns:
            Their names.

        Raises:
            LocalStackError: there are not so many names, or one did not become ready.
        """
        running = self._running[service]
        if count > len(running):
            self._add(service, self._choose(service, count - len(running), names))
        elif count < len(running):
            self.stop(service, *running[count:])
        return self.running(service)

    def stop(self, service: str, *names: str) -> None:
        """Stop replicas in good order, all at the same time, and wait until they are gone."""
        with ThreadPoolExecutor(len(names)) as pool:
            for done in [pool.submit(self._take_away, service, name) for name in names]:
                done.result()

    def replace(self, service: str, name: str, *, by: str | None = None) -> str:
        """Replace a replica: surge 1, unavailable 0, one step of a rolling restart.

        A new one becomes ready and goes into the balancer. Then the old one is taken out, waits
        for the pre-stop pause, gets SIGTERM and has its grace period.

        Args:
            service: which.
            name: of the old one.
            by: name of the new one; the next spare one unless given.

        Returns:
            The name of the new one.
        """
        (new,) = self._choose(service, 1, [by] if by else ())
        self._add(service, [new])
        self.stop(service, name)
        return new

    def kill(self, name: str) -> bool:
        """Kill a process without a word; it is started again, as the kubelet does.

        Returns:
            Whether it ran.
        """
        process = self._process(name)
        if process is None:
            return False
        process.send_signal(signal.SIGKILL)
        return True

    def lose(self, service: str, name: str) -> None:
        """Kill a replica and have nobody start it again, as when its node is gone."""
        self.kill(name)
        order(self.state(), "stop", [name])
        self._gone(service, name)

    def freeze(self, name: str) -> bool:
        """Stop a process with all of its children where they are; whether it ran."""
        return self._signal_all(name, signal.SIGSTOP)

    def thaw(self, name: str) -> bool:
        """Let a process and its children go on; whether it ran."""
        return self._signal_all(name, signal.SIGCONT)

    def _choose(self, service: str, count: int, names: Sequence[str]) -> list[str]:
        chosen = list(names) or self._spare[service][:count]
        if len(chosen) != count or not set(chosen) <= set(self._spare[service]):
            raise LocalStackError(f"{count} more of {service}? To be had: {self._spare[service]}")
        return chosen

    def _add(self, service: str, names: Sequence[str]) -> None:
        self.start(*names)
        for name in names:
            self._spare[service].remove(name)
            self._running[service].append(name)
            self._balancer.admit(service, self.record(name))

    def _take_away(self, service: str, name: str) -> None:
        self._running[service].remove(name)
        self._balancer.withdraw(name)
        time.sleep(self.pre_stop_seconds)
        order(self.state(), "stop", [name])
        self._gone(service, name)

    def _gone(self, service: str, name: str) -> None:
        self._balancer.withdraw(name)
        if name in self._running[service]:
            self._running[service].remove(name)
        self._spare[service].append(name)
        share = self._shares.pop(name, None)
        if share is not None:
            share.close()

    def _process(self, name: str) -> psutil.Process | None:
        return find(self.record(name), self.directory)

    def _signal_all(self, name: str, number: signal.Signals) -> bool:
        process = self._process(name)
        return process is not None and signal_all(process, number)
