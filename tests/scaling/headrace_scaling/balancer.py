"""What Kubernetes' Services do: one address for each, which leads to the replicas that are ready.

A connection stays with its replica until one of them ends it. A new one goes to the next replica
that is ready, and to no other if that one does not answer.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from headrace_chaos.proxy import ProxyHost

from headrace_local.ports import LOOPBACK, choose_ports
from headrace_local.state import ProcessRecord, ProcessState, StackState

#: How soon the end of a process is noticed; the kubelet looks once a second.
_LOOK_SECONDS: Final = 0.2
_PROBES_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Probes:
    """Readiness probes, by default those of k8s/base.

    Attributes:
        period_seconds: from one to the next.
        timeout_seconds: of one.
        failures: after so many in a row a replica is not ready.
    """

    period_seconds: float = 5
    timeout_seconds: float = 5
    failures: int = 2


@dataclass
class _Member:
    service: str
    port: int
    url: str
    runs: bool = True
    failures: int = 0
    probe: "Future[bool] | None" = None


class Balancer:
    """The addresses of all services, kept up to date in a thread of its own."""

    def __init__(
        self,
        services: Sequence[str],
        directory: Path,
        *,
        look: Callable[[], StackState | None],
        probes: Probes | None = None,
    ) -> None:
        """Open the addresses; nobody is behind them.

        Args:
            services: by name.
            directory: decides where the search for ports begins.
            look: returns the state of the stack.
            probes: how often each replica is asked whether it is ready.
        """
        self._look = look
        self._probes = probes or Probes()
        self._members: dict[str, _Member] = {}
        self._changing = threading.Lock()
        self._hosts = ProxyHost()
        self.ports = choose_ports(
            dict.fromkeys(services, ()), previous={}, directory=directory / "balancers"
        )
        for service in services:
            self._hosts.add(service, self.ports[service], fails_over=False)
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(_PROBES_AT_ONCE, "probe")
        self._thread = threading.Thread(target=self._watch, name="balancer", daemon=True)
        self._thread.start()

    def url(self, service: str) -> str:
        """Return the address of a service."""
        return f"http://{LOOPBACK}:{self.ports[service]}"

    def admit(self, service: str, record: ProcessRecord) -> None:
        """Let new connections go to a replica that is ready."""
        with self._changing:
            self._members[record.name] = _Member(service, record.port, record.url)
            self._lead(service)

    def withdraw(self, name: str) -> None:
        """Let no new connection go to a replica; those that it has stay."""
        with self._changing:
            member = self._members.pop(name, None)
            if member is not None:
                self._lead(member.service)

    def behind(self, service: str) -> list[str]:
        """Return the names of the replicas that new connections go to."""
        with self._changing:
            return [
                name
                for name, member in self._members.items()
                if member.service == service and self._is_ready(member)
            ]

    def close(self) -> None:
        """Close the addresses, and every connection to them."""
        self._closing.set()
        self._thread.join()
        self._pool.shutdown()
        self._hosts.close()

    def _is_ready(self, member: _Member) -> bool:
        return member.runs and member.failures < self._probes.failures

    def _lead(self, service: str) -> None:
        ready = [it for it in self._members.values() if it.service == service]
        ports = [member.port for member in ready if self._is_ready(member)]
        self._hosts.proxies[service].lead_to(*ports)

    def _watch(self) -> None:
        looks = 0
        while not self._closing.wait(_LOOK_SECONDS):
            looks += 1
            state = self._look()
            if state is None:
                continue
            probe = looks * _LOOK_SECONDS >= self._probes.period_seconds
            looks = 0 if probe else looks
            with self._changing:
                for name, member in self._members.items():
                    self._see(member, state.process(name), probe=probe)

    def _see(self, member: _Member, record: ProcessRecord | None, *, probe: bool) -> None:
        was_ready = self._is_ready(member)
        runs = record is not None and _runs(record)
        if runs and not member.runs:
            member.failures = 0
        member.runs = runs
        if member.probe is not None and member.probe.done():
            member.failures = 0 if member.probe.result() else member.failures + 1
            member.probe = None
        if probe and runs and member.probe is None:
            member.probe = self._pool.submit(self._probe, member.url)
        if self._is_ready(member) != was_ready:
            self._lead(member.service)

    def _probe(self, url: str) -> bool:
        try:
            answer = httpx.get(
                f"{url}/health/ready", timeout=self._probes.timeout_seconds, trust_env=False
            )
        except httpx.HTTPError:
            return False
        return answer.is_success


def _runs(record: ProcessRecord) -> bool:
    alive = record.identity is not None and record.identity.is_alive()
    return alive and record.state is ProcessState.READY
