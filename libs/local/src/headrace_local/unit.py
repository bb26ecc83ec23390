"""One supervised process: started, probed, watched, restarted, stopped, in a thread of its own."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from headrace_local import logs
from headrace_local.errors import LocalStackError
from headrace_local.ports import LOOPBACK
from headrace_local.process import Child, describe_exit
from headrace_local.program import Program
from headrace_local.state import ProcessRecord, ProcessState

_PROBE_EVERY_SECONDS: Final = 0.05
#: How much of a log tells why a process failed.
_LOG_LINES: Final = 15

_log = structlog.get_logger()


@dataclass(frozen=True)
class RestartPolicy:
    """When to start a process again.

    Attributes:
        delays: seconds to wait before the first, second ... restart in a row; after the last
            one the process is given up.
        healthy_after: seconds of readiness after which the row begins anew.
        tireless: never give up; the last delay is used again and again.
    """

    delays: Sequence[float] = (0.1, 0.2, 0.5, 1, 2)
    healthy_after: float = 30
    tireless: bool = False

    def delay(self, failures: int) -> float | None:
        """Return how long to wait after that many failures in a row, or None to give up."""
        if failures <= len(self.delays):
            return self.delays[failures - 1]
        return self.delays[-1] if self.tireless else None


class Unit:
    """Keeps one program running."""

    def __init__(
        self,
        program: Program,
        *,
        log: Path,
        on_change: Callable[[], None],
        after_ready: Callable[[], None],
        policy: RestartPolicy | None = None,
    ) -> None:
        """Make it; nothing is started yet.

        Args:
            program: what to run.
            log: gets its output.
            on_change: called, from any thread, when `record` has changed.
            after_ready: called each time the program answers, before it counts as ready.
            policy: when to start it again.
        """
        self.program = program
        self._on_change = on_change
        self._after_ready = after_ready
        self._policy = policy or RestartPolicy()
        self._ordering = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._wake = threading.Event()
        self._changed = threading.Condition()
        self.record = ProcessRecord(
            name=program.name,
            kind=program.kind,
            port=program.port,
            url=program.url,
            log_path=log,
            stop_signal=program.stop_signal,
        )

    def start(self) -> None:
        """Start it and keep it running; nothing happens if it is."""
        with self._ordering:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stopping.clear()
            self._update(state=ProcessState.STARTING, error=None)
            self._thread = threading.Thread(target=self._run, name=self.program.name, daemon=True)
            self._thread.start()

    def request_stop(self) -> None:
        """Ask it to stop, without waiting."""
        self._stopping.set()
        self._wake.set()

    def stop(self, *, hurry: threading.Event | None = None) -> None:
        """Stop it and wait until it is gone.

        Args:
            hurry: when set, its grace is over.
        """
        if hurry is not None:
            self._hurry = hurry
        self.request_stop()
        with self._ordering:
            if self._thread is not None:
                self._thread.join()

    def wait_settled(self, cancelled: threading.Event | None = None) -> ProcessRecord:
        """Wait until it is ready, failed or stopped, or until `cancelled`."""
        settled = {ProcessState.READY, ProcessState.FAILED, ProcessState.STOPPED}
        with self._changed:
            while self.record.state not in settled and not (cancelled and cancelled.is_set()):
                self._changed.wait(0.2)
            return self.record

    def _update(self, **changes: Any) -> None:
        with self._changed:
            self.record = self.record.model_copy(update=changes)
            self._changed.notify_all()
        self._on_change()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                reason, ready_seconds = self._run_once()
            except (LocalStackError, OSError) as error:  # trying again would not help
                self._give_up(str(error))
                return
            if self._stopping.is_set():
                break
            failures = 1 if ready_seconds >= self._policy.healthy_after else failures + 1
            delay = self._policy.delay(failures)
            if delay is None:
                self._give_up(reason)
                return
            self._note_restart(reason, delay)
            self._stopping.wait(delay)
        self._update(state=ProcessState.STOPPED, identity=None)

    def _note_restart(self, reason: str, delay: float) -> None:
        _log.warning("local.process_restarting", name=self.program.name, reason=reason, delay=delay)
        self._update(
            state=ProcessState.RESTARTING,
            identity=None,
            restarts=self.record.restarts + 1,
            error=reason,
        )

    def _give_up(self, reason: str) -> None:
        last = logs.tail(self.record.log_path, _LOG_LINES)
        error = "\n".join([reason, *(f"  {self.program.name}| {line}" for line in last)])
        _log.error("local.process_failed", name=self.program.name, reason=reason)
        self._update(state=ProcessState.FAILED, identity=None, error=error)

    def _run_once(self) -> tuple[str, float]:
        """Run the program until it ends or has to.

        Returns:
            Why it ended, and how many seconds it had been ready.
        """
        self.program.prepare()
        logs.bound(self.record.log_path)
        self._wake.clear()
        if self._stopping.is_set():
            return "", 0
        child = Child(self.program.launch(), log=self.record.log_path, on_exit=self._wake.set)
        self._update(identity=child.identity)
        try:
            problem = self._until_ready(child)
            if problem is not None:
                return problem, 0
            self._update(state=ProcessState.READY)
            ready_at = time.monotonic()
            self._wake.wait()
            return describe_exit(child.exit_status or 0), time.monotonic() - ready_at
        finally:
            self._end(child)

    def _end(self, child: Child) -> None:
        child.end(self.program.stop_signal, grace=self.program.stop_grace, hurry=self._hurry)
        self.program.clean_up()

    def _until_ready(self, child: Child) -> str | None:
        """Wait until the program answers and is provisioned; return what prevented it."""
        deadline = time.monotonic() + self.program.start_timeout
        while True:
            problem = self._try_ready()
            if problem is None:
                return None
            self._wake.wait(_PROBE_EVERY_SECONDS)
            if child.exit_status is not None:
                return describe_exit(child.exit_status)
            if self._stopping.is_set():
                return "stopped"
            if time.monotonic() > deadline:
                return f"not ready after {self.program.start_timeout:.0f} s: {problem}"

    def _try_ready(self) -> str | None:
        try:
            # Clients retry with pauses; a closed port need not wait for them.
            socket.create_connection((LOOPBACK, self.program.port), timeout=1).close()
            self.program.probe()
            self._after_ready()
        except Exception as error:  # noqa: BLE001 - each client has its own; all mean not ready
            return f"{type(error).__name__}: {error}"
        return None
