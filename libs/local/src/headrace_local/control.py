"""What the command line calls: up, down, status and logs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headrace_local import logs as log_files
from headrace_local.errors import LocalStackError, NoStackError, StartFailedError
from headrace_local.interrupts import stop_signals
from headrace_local.layout import StackLayout, resolve_directory
from headrace_local.leftovers import end_leftovers
from headrace_local.lock import AlreadyRunningError, StackLock
from headrace_local.overrides import NONE, OVERRIDES_VARIABLE, Overrides
from headrace_local.parts import ALL_PARTS, Part, Services, chosen_servers, chosen_services
from headrace_local.process import ProcessIdentity
from headrace_local.services import specs_to_json
from headrace_local.state import Phase, StackState, load, reconcile
from headrace_local.supervisor import OnChange, StackOptions, Supervisor

#: The first start installs the SQS emulator, over the network.
_START_TIMEOUT_SECONDS: Final = 900
#: Longer than all graces together, so that the supervisor gets to the end of its stop.
_STOP_TIMEOUT_SECONDS: Final = 120
_POLL_SECONDS: Final = 0.05
_SUPERVISOR: Final = "supervisor"

#: Compiling everything anew at each start would take two seconds.
_NOT_INHERITED: Final = frozenset({"PYTHONDONTWRITEBYTECODE"})


@dataclass(frozen=True)
class UpResult:
    """What `up` did: the stack, and whether it ran before, so that nothing was started."""

    state: StackState
    already_running: bool


def up(
    directory: Path | None = None,
    *,
    parts: Sequence[Part] = ALL_PARTS,
    services: Services = True,
    servers: Sequence[str] | None = None,
    overrides: Overrides = NONE,
    on_change: OnChange | None = None,
) -> UpResult:
    """Run the stack in the foreground until SIGINT or SIGTERM; a second one ends all grace.

    Args:
        directory: the stack's; see `layout.resolve_directory`.
        parts: halves of the product to run.
        services: whether to run the parts' services; or which instead.
        servers: names of the servers to run instead of the parts'.
        overrides: what is to be otherwise than the stack has it by itself.
        on_change: gets the state at each change, from any thread.

    Raises:
        StartFailedError: a process did not become ready; everything is stopped again.
    """
    options = StackOptions(
        directory=resolve_directory(directory),
        servers=chosen_servers(servers, parts),
        services=chosen_services(services, parts),
        overrides=overrides,
    )
    return run(options, on_change=on_change)


def run(options: StackOptions, *, on_change: OnChange | None = None) -> UpResult:
    """Do what `up` does, with every option."""
    running = status(options.directory)
    if running is not None and running.is_running:
        return UpResult(running, already_running=True)
    with stop_signals() as (stop, hurry):
        try:
            state = Supervisor(options, on_change=on_change).run(stop, hurry)
        except AlreadyRunningError:
            running = status(options.directory)
            if running is None:
                raise
            return UpResult(running, already_running=True)
    return UpResult(state, already_running=False)


def up_detached(
    directory: Path | None = None,
    *,
    parts: Sequence[Part] = ALL_PARTS,
    services: Services = True,
    servers: Sequence[str] | None = None,
    held: bool = False,
    parent: int | None = None,
    overrides: Overrides = NONE,
    on_change: OnChange | None = None,
) -> UpResult:
    """Start the stack in a session of its own, and return when all of it is ready.

    Args:
        directory: the stack's; see `layout.resolve_directory`.
        parts: halves of the product to run.
        services: whether to run the parts' services; or which instead.
        servers: names of the servers to run instead of the parts'.
        held: start only the supervisor, which starts processes when it is ordered to.
        parent: pid of a process with which the stack ends, however that ends.
        overrides: what is to be otherwise than the stack has it by itself.
        on_change: gets the state when it has changed.

    Raises:
        StartFailedError: a process did not become ready; everything is stopped again.
    """
    layout = StackLayout(resolve_directory(directory))
    running = status(layout.directory)
    if running is not None and running.is_running:
        return UpResult(_wait_ready(layout, on_change), already_running=True)
    command = [
        *(sys.executable, "-m", "headrace_local", "--directory", str(layout.directory)),
        *("--servers", ",".join(chosen_servers(servers, parts))),
        *("--services", specs_to_json(chosen_services(services, parts))),
        *(["--held"] if held else []),
        *(["--parent", str(parent)] if parent is not None else []),
    ]
    inherited = {name: os.environ[name] for name in os.environ if name not in _NOT_INHERITED}
    layout.create()
    since = datetime.now(UTC)
    log_files.rotate(layout.log(_SUPERVISOR))
    with layout.log(_SUPERVISOR).open("ab") as output:
        supervisor = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=layout.directory,
            env=inherited | {OVERRIDES_VARIABLE: overrides.model_dump_json()},
            start_new_session=True,
        )
    # Somebody has to reap it should it end before us.
    threading.Thread(target=supervisor.wait, daemon=True).start()
    return UpResult(_wait_ready(layout, on_change, supervisor, since), already_running=False)


def down(directory: Path | None = None, *, hurried: bool = False) -> bool:
    """Stop the stack, or what a killed supervisor left of it; nothing to stop is no error.

    No process gets its grace if it is `hurried`.

    Returns:
        Whether something ran.

    Raises:
        LocalStackError: it does not stop.
    """
    layout = StackLayout(resolve_directory(directory))
    if not layout.lock.exists():
        return False
    was_running = _end_supervisor(layout, hurried=hurried)
    with StackLock(layout.lock):
        left = end_leftovers(layout)
        state = load(layout.state)
        if state is not None:
            reconcile(state).save(layout.state)
    return was_running or left > 0


def status(directory: Path | None = None) -> StackState | None:
    """Return the state of the stack as it is now, or None if there never was one."""
    state = load(StackLayout(resolve_directory(directory)).state)
    return reconcile(state) if state else None


def logs(
    directory: Path | None = None,
    name: str = _SUPERVISOR,
    *,
    follow: bool = False,
    lines: int = 100,
) -> Iterator[str]:
    """Yield lines of a process's log.

    Args:
        directory: the stack's.
        name: the process; `supervisor` for the one of a detached stack.
        follow: go on with new lines until the stack stops.
        lines: how many of those that are there.

    Raises:
        NoStackError: there is no stack, or no process of that name.
    """
    layout = StackLayout(resolve_directory(directory))
    state = load(layout.state)
    if state is None:
        raise NoStackError(f"no stack in {layout.directory}; `headrace up` starts one")
    names = [_SUPERVISOR, *(record.name for record in state.processes)]
    if name not in names:
        raise NoStackError(f"no process called {name!r}; there are {', '.join(names)}")
    path = layout.log(name)
    if not follow:
        return iter(log_files.tail(path, lines))

    def stopped() -> bool:
        state = load(layout.state)
        return state is None or not state.is_running

    return log_files.follow(path, lines=lines, stopped=stopped)


def _wait_ready(
    layout: StackLayout,
    on_change: OnChange | None,
    supervisor: "subprocess.Popen[bytes] | None" = None,
    since: datetime | None = None,
) -> StackState:
    """Wait until the stack is ready, and report each change on the way.

    Args:
        layout: the stack's paths.
        on_change: gets each new state.
        supervisor: the one that was started, if we did it.
        since: an older state is of another run.

    Raises:
        StartFailedError: it ended instead, or took too long.
    """
    report = _Reporter(on_change)
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        ended = supervisor is not None and supervisor.poll() is not None
        state = load(layout.state)
        if state is not None and state.is_running:
            report(state)
            if state.phase is Phase.READY:
                return state
        elif ended or supervisor is None:
            raise StartFailedError(_why_it_ended(layout, state, since))
        time.sleep(_POLL_SECONDS)
    raise StartFailedError(f"the stack was not ready after {_START_TIMEOUT_SECONDS} s")


class _Reporter:
    """Passes each state on once."""

    def __init__(self, on_change: Callable[[StackState], None] | None) -> None:
        self._on_change = on_change
        self._last: StackState | None = None

    def __call__(self, state: StackState) -> None:
        if self._on_change is not None and state != self._last:
            self._on_change(state)
        self._last = state


def _why_it_ended(layout: StackLayout, state: StackState | None, since: datetime | None) -> str:
    if state is not None and state.error and (since is None or state.started_at >= since):
        return state.error
    last = log_files.tail(layout.log(_SUPERVISOR), 20)
    return "\n".join(["the supervisor ended:", *last])


def _end_supervisor(layout: StackLayout, *, hurried: bool) -> bool:
    """Ask the supervisor to stop, and wait until it has; kill one that hangs."""
    state = load(layout.state)
    identity = state.supervisor if state is not None and state.is_running else None
    if identity is None:
        return False
    _signal(identity, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while identity.is_alive():
        if hurried:
            _signal(identity, signal.SIGTERM)
        if time.monotonic() > deadline:
            _signal(identity, signal.SIGKILL)
            deadline += _STOP_TIMEOUT_SECONDS
        time.sleep(_POLL_SECONDS)
    return True


def _signal(identity: ProcessIdentity, number: signal.Signals) -> None:
    process = identity.find()
    if process is not None:
        process.send_signal(number)


def require_running(directory: Path | None = None) -> StackState:
    """Return the state of a stack that runs.

    Raises:
        LocalStackError: it does not.
    """
    state = status(directory)
    if state is None or not state.is_running:
        raise LocalStackError("the stack does not run; `headrace up` starts it")
    return state
