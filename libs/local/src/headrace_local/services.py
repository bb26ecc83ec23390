"""The services that run on the local stack, started by command and never imported."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from headrace_local.errors import NoStackError
from headrace_local.ports import LOOPBACK, Offsets
from headrace_local.process import Launch
from headrace_local.program import Program
from headrace_local.state import Kind

#: Stands for the chosen port in a command; services read it from PORT.
PORT_PLACEHOLDER: Final = "{port}"

INGEST: Final = "ingest-api"
DISPATCHER: Final = "dispatcher"
RESULTS: Final = "results"
ANALYSIS: Final = "analysis-server"
PREPROCESSOR: Final = "gpu-preprocessor"

#: Seconds of SHUTDOWN_GRACE_SECONDS for the services here; the supervisor kills a little later.
SHUTDOWN_GRACE_SECONDS: Final = 10


class ServiceSpec(BaseModel):
    """One service.

    Attributes:
        name: what it is called in the state, the logs and on the command line.
        command: program and arguments; `{port}` becomes the port.
        env: on top of what every service gets.
        health_path: answers with a success once the service is ready.
        endpoint: its name among the state's endpoints, if it has one.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = {}
    health_path: str = "/health/ready"
    endpoint: str | None = None

    def replica(self, number: int) -> "ServiceSpec":
        """Return the same service under another name; the first one keeps the endpoint."""
        name = f"{self.name}-{number}"
        # By default the host's name, which must belong to one process only.
        env = {**self.env, "CONSUMER_NAME": name}
        return self.model_copy(update={"name": name, "endpoint": None, "env": env})


def _module(name: str, module: str, endpoint: str, **env: str) -> ServiceSpec:
    command = (sys.executable, "-m", module)
    return ServiceSpec(name=name, command=command, endpoint=endpoint, env=env)


#: Stopped from the end: those that work on jobs hand in their results while the others run.
DEFAULT_SERVICES: Final = (
    _module(INGEST, "headrace_ingest_api", "ingest_url"),
    _module(DISPATCHER, "headrace_dispatcher", "dispatcher_url"),
    _module(RESULTS, "headrace_results", "results_url"),
    _module(ANALYSIS, "speech_analysis_server", "analysis_url", CALLBACK_ALLOWED_HOSTS=LOOPBACK),
    _module(PREPROCESSOR, "headrace_gpu_preprocessor", "preprocessor_url"),
)


def replicated(specs: Iterable[ServiceSpec], counts: Mapping[str, int]) -> tuple[ServiceSpec, ...]:
    """Return the services with several replicas of some: `dispatcher`, `dispatcher-2` ...

    Args:
        specs: the services.
        counts: how many there are of those that have more than one, by name.

    Raises:
        NoStackError: there is no such service.
    """
    chosen = tuple(specs)
    unknown = counts.keys() - {spec.name for spec in chosen}
    if unknown:
        raise NoStackError(f"no service called {', '.join(sorted(unknown))}")
    return tuple(
        spec if number == 1 else spec.replica(number)
        for spec in chosen
        for number in range(1, counts.get(spec.name, 1) + 1)
    )


_SPECS: Final = TypeAdapter(tuple[ServiceSpec, ...])


def specs_to_json(specs: tuple[ServiceSpec, ...]) -> str:
    """Write specs as one argument of a command line."""
    return json.dumps(_SPECS.dump_python(specs, mode="json"))


def specs_from_json(text: str) -> tuple[ServiceSpec, ...]:
    """Read what `specs_to_json` wrote."""
    return _SPECS.validate_json(text)


class Service(Program):
    """A service as the supervisor runs it."""

    kind: ClassVar[Kind] = "service"
    stop_grace: ClassVar[float] = SHUTDOWN_GRACE_SECONDS + 5

    def __init__(
        self, spec: ServiceSpec, directory: Path, environment: Callable[[], Mapping[str, str]]
    ) -> None:
        """Make it.

        Args:
            spec: what it is.
            directory: where it runs.
            environment: asked at each start for what every service gets, which is known once
                the servers are ready.
        """
        self.spec = spec
        self.name = spec.name
        self._directory = directory
        self._environment = environment
        self._port = 0

    def wanted_ports(self) -> Mapping[str, Offsets]:
        """Return one port without companions."""
        return {self.name: ()}

    def use_ports(self, ports: Mapping[str, int]) -> None:
        """Take the port that was chosen."""
        self._port = ports[self.name]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    def launch(self) -> Launch:
        """Return how to start it."""
        command = [word.replace(PORT_PLACEHOLDER, str(self.port)) for word in self.spec.command]
        own = {"HOST": LOOPBACK, "PORT": str(self.port), **self.spec.env}
        return Launch(command, {**self._environment(), **own}, cwd=self._directory)

    def probe(self) -> None:
        """Ask for its health."""
        import httpx  # noqa: PLC0415 - loads while the service starts

        httpx.get(self.url + self.spec.health_path, timeout=5, trust_env=False).raise_for_status()
