"""What runs: the state file, written by the supervisor and read by everybody else."""

import os
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_local.files import write_private
from headrace_local.layout import DIRECTORY_NAME, HOME_VARIABLE, StackLayout
from headrace_local.process import ProcessIdentity


class ProcessState(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"  #: given up after too many restarts
    STOPPED = "stopped"


class Phase(StrEnum):
    """Where the stack is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"  #: did not start; everything is stopped again


Kind = Literal["server", "service"]


class ProcessRecord(BaseModel):
    """One process of the stack."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Kind
    port: int
    url: str  #: without credentials
    log_path: Path
    stop_signal: int
    state: ProcessState = ProcessState.STOPPED
    identity: ProcessIdentity | None = None
    restarts: int = 0
    error: str | None = None  #: why it failed or restarted last

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.identity.pid if self.identity else None

    @property
    def started_at(self) -> float | None:
        """When the process was created, in seconds since 1970."""
        return self.identity.created if self.identity else None


class ControlAddress(BaseModel):
    """Where the supervisor takes orders."""

    port: int
    key: str


class StackState(BaseModel):
    """The whole stack."""

    directory: Path
    phase: Phase
    supervisor: ProcessIdentity | None = None
    started_at: datetime
    processes: list[ProcessRecord] = Field(default_factory=list)
    ports: dict[str, int] = Field(default_factory=dict)
    endpoints: dict[str, str] = Field(
        default_factory=dict,
        description="Of those that run: ingest_url, results_url, dispatcher_url, analysis_url, "
        "preprocessor_url",
    )
    api_key: str | None = None
    env: dict[str, str] = Field(
        default_factory=dict, description="What every service gets but HOST and PORT"
    )
    control: ControlAddress | None = None
    error: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether its supervisor lives."""
        return self.supervisor is not None and self.supervisor.is_alive()

    def process(self, name: str) -> ProcessRecord | None:
        """Return the record of the process `name`."""
        return next((record for record in self.processes if record.name == name), None)

    def save(self, path: Path) -> None:
        """Replace the state file."""
        write_private(path, self.model_dump_json(indent=2))


def load(path: Path) -> StackState | None:
    """Read a state file; None if there is none, or an older version wrote it."""
    try:
        return StackState.model_validate_json(path.read_text())
    except (FileNotFoundError, ValidationError):
        return None


def reconcile(state: StackState) -> StackState:
    """Correct what a supervisor that was killed could not write down any more."""
    if state.is_running:
        return state
    phase = Phase.FAILED if state.phase is Phase.FAILED else Phase.STOPPED
    processes = [_reconcile_record(record) for record in state.processes]
    return state.model_copy(
        update={"phase": phase, "supervisor": None, "control": None, "processes": processes}
    )


def _reconcile_record(record: ProcessRecord) -> ProcessRecord:
    """A process that outlived its supervisor keeps its state: it runs, and nobody watches it."""
    if record.state is ProcessState.FAILED or (record.identity and record.identity.is_alive()):
        return record
    return record.model_copy(update={"state": ProcessState.STOPPED, "identity": None})


def find_stack(start: Path | None = None) -> StackState | None:
    """Find the stack that belongs to a place: HEADRACE_HOME, else the nearest `.headrace` above.

    Args:
        start: where to begin to look; the current directory unless given.
    """
    for directory in _places(start):
        state = load(StackLayout(directory).state)
        if state is not None:
            return reconcile(state)
    return None


def _places(start: Path | None) -> Iterable[Path]:
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return [Path(home).expanduser().resolve()]
    here = (start or Path.cwd()).resolve()
    return [directory / DIRECTORY_NAME for directory in (here, *here.parents)]
