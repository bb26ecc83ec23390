"""What the supervisor needs to know of a program, server or service, to run it."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from headrace_local.ports import LOOPBACK, Offsets
from headrace_local.process import Launch
from headrace_local.state import Kind


class Program(ABC):
    """One program on one or more ports of the loopback address."""

    kind: ClassVar[Kind] = "server"
    scheme: ClassVar[str] = "http"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: Servers without which it does not become ready.
    needs: ClassVar[tuple[str, ...]] = ()
    #: Seconds to stop in before it is killed.
    stop_grace: ClassVar[float] = 10
    #: Seconds to become ready in: generous, for whoever starts several stacks at once on a machine
    #: of two cores. A program that ends is not waited for.
    start_timeout: ClassVar[float] = 180

    #: What it is called in the state, the logs and on the command line.
    name: str

    @abstractmethod
    def wanted_ports(self) -> Mapping[str, Offsets]:
        """Return the names of its ports, the main one first, each with its companions' offsets."""

    @abstractmethod
    def use_ports(self, ports: Mapping[str, int]) -> None:
        """Take the ports that were chosen."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The main port."""

    @property
    def url(self) -> str:
        """Where it answers, without credentials."""
        return f"{self.scheme}://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:  # noqa: B027 - most programs need nothing
        """Make what must be there before it starts; repeated before each start."""

    def clean_up(self) -> None:  # noqa: B027 - most programs leave nothing
        """Remove what it leaves outside its directory; called each time it has ended."""

    @abstractmethod
    def launch(self) -> Launch:
        """Return how to start it."""

    @abstractmethod
    def probe(self) -> None:
        """Use it as a client would.

        Raises:
            Exception: it is not ready.
        """


class Server(Program):
    """A program that keeps data in a directory of its own."""

    def __init__(self, data: Path, environment: Mapping[str, str]) -> None:
        """Make it.

        Args:
            data: its data directory, which exists.
            environment: what every process of the stack gets.
        """
        self.data = data
        self.environment = environment
        self._ports: Mapping[str, int] = {}

    def wanted_ports(self) -> Mapping[str, Offsets]:
        """Return one port without companions."""
        return {self.name: ()}

    def use_ports(self, ports: Mapping[str, int]) -> None:
        """Take the ports that were chosen."""
        self._ports = ports

    @property
    def port(self) -> int:
        """The main port."""
        return self._ports[self.name]
