"""The stack that is measured: both halves, a spare pod of each service, an idle analysis server."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from headrace_capacity.measurement import Phase, Service, Work
from headrace_capacity.measuring.meters import Meters
from headrace_local import control
from headrace_local.channel import order
from headrace_local.overrides import Overrides
from headrace_local.parts import ALL_PARTS, servers_of, services_of
from headrace_local.services import ServiceSpec, replicated
from headrace_local.state import StackState

_SCRIPTS: Final = Path(__file__).parents[2]
#: Where the local stack differs from the defaults, so that what a pod does by itself is what it
#: does elsewhere; and an analysis server that has room for everything.
_SETTINGS: Final = {
    "STORAGE_SCAN_SECONDS": "3600",
    "STORAGE_DISCARD_RETRY_SECONDS": "600",
    "RETRY_BASE_SECONDS": "10",
    "LOST_AFTER_SECONDS": "300",
    "FIRING_LOST_AFTER_SECONDS": "30",
    "CCTV_LOST_AFTER_SECONDS": "300",
    "REDIS_VISIBILITY_TIMEOUT": "300",
    "ANALYSIS_DEADLINE_SECONDS": "21600",
    "ANALYSIS_HEARTBEAT_SECONDS": "15",
    # What waits to be trimmed is looked at.
    "REDIS_TRIM_SECONDS": "3600",
    "STREAM_TRIM_SECONDS": "3600",
}
_IDLE_ANALYSIS: Final = {
    "PYTHONPATH": str(_SCRIPTS),
    "ANALYSIS_CONCURRENCY": "32",
    "ANALYSIS_HTTP_QUEUE_SIZE": "1000",
    "PROGRESS_INTERVAL_SECONDS": "0",
}
#: Postgres's backends tell their counts at most once a second.
_SETTLE_SECONDS: Final = 1.5


class Stand:
    """Runs the stack, and measures phases on it. A context manager."""

    def __init__(self, directory: Path) -> None:
        """Make it in a directory of its own; nothing runs before it is entered."""
        self.directory = directory
        self.pods = dict.fromkeys(Service, 1)

    def __enter__(self) -> Self:
        """Start everything, the spare pods not."""
        specs = replicated(map(_idle_one, services_of(ALL_PARTS)), dict.fromkeys(Service, 2))
        state = control.up_detached(
            self.directory,
            parts=ALL_PARTS,
            services=specs,
            held=True,
            parent=os.getpid(),
            overrides=Overrides(settings=_SETTINGS),
        ).state
        order(state, "start", servers_of(ALL_PARTS))
        order(state, "start", list(Service))
        self.state = self.now()
        self.meters = Meters(self.state.env)
        # A page that is changed for the first time after a checkpoint is written whole: in a
        # short run on few pages that is nearly all of the WAL. It is measured by itself.
        self.meters.database.execute("ALTER SYSTEM SET full_page_writes = off")
        # A vacuum belongs to all work before it, and would fall on the phase in which it happens.
        self.meters.database.execute("ALTER SYSTEM SET autovacuum = off")
        self.meters.database.execute("SELECT pg_reload_conf()")
        self.http = httpx.Client(
            headers={"authorization": f"Bearer {self.state.api_key}"}, timeout=120, trust_env=False
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.http.close()
        self.meters.close()
        control.down(self.directory)

    def now(self) -> StackState:
        """Return the state as it is now."""
        return control.require_running(self.directory)

    def url(self, service: Service, number: int = 1) -> str:
        """Return where a pod is."""
        name = str(service) if number == 1 else f"{service}-{number}"
        record = self.now().process(name)
        if record is None:
            raise LookupError(name)
        return record.url

    def urls(self, service: Service) -> list[str]:
        """Return where all pods of a service are."""
        return [self.url(service, number + 1) for number in range(self.pods[service])]

    def start_second(self, service: Service) -> None:
        """Start the spare pod of a service."""
        order(self.now(), "start", [f"{service}-2"])
        self.pods[service] += 1

    def call(self, service: Service, method: str, path: str, **request: Any) -> Any:
        """Ask a service something, and return the answer's JSON."""
        answer = self.http.request(method, self.url(service) + path, **request)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

    @contextmanager
    def phase(
        self, name: str, phases: list[Phase], work: Mapping[Work, float] | None = None
    ) -> Iterator[dict[Work, float]]:
        """Measure what is used while the block runs; its work is what the block leaves in the dict.

        Args:
            name: of the phase.
            phases: gets it.
            work: that is known before.
        """
        done: dict[Work, float] = dict(work or {})
        before, began = self.meters.read(self.now()), time.monotonic()
        yield done
        time.sleep(_SETTLE_SECONDS)
        after, seconds = self.meters.read(self.now()), time.monotonic() - began
        more = {key: value - before.get(key, 0.0) for key, value in sorted(after.items())}
        used = {key: round(value, 4) for key, value in more.items() if value > 0}
        phases.append(
            Phase(name=name, seconds=round(seconds, 3), pods=dict(self.pods), work=done, used=used)
        )
        told = ", ".join(f"{count:.4g} {work}" for work, count in done.items()) or "no work"
        print(f"{name:<14}{seconds:6.1f} s  {told}", flush=True)


def _idle_one(spec: ServiceSpec) -> ServiceSpec:
    if spec.name != Service.ANALYSIS:
        return spec
    command = (sys.executable, "-m", "headrace_capacity.measuring.analysis")
    return spec.model_copy(update={"command": command, "env": {**spec.env, **_IDLE_ANALYSIS}})


@contextmanager
def film(seconds: float) -> Iterator[Callable[[], str]]:
    """Have a film rendered and played meanwhile; what is yielded waits for its URL."""
    command = [sys.executable, "-m", "headrace_capacity.measuring.film", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(_SCRIPTS)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the film has no pipes")
        try:
            yield lambda: process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.stdin.close()
