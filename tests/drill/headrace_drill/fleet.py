"""The processes of the drill."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from headrace_drill.target import declare
from headrace_local.ports import reserve_port
from headrace_local.tools import ensure_faketime, faketime_environment, set_clock

_HERE: Final = Path(__file__).parent.parent
_STOP_SECONDS: Final = 30


@dataclass
class Member:
    """One scheduler process."""

    name: str
    environment: dict[str, str]
    log: Path
    clock_off_seconds: int
    pids: set[int] = field(default_factory=set)
    process: "subprocess.Popen[bytes] | None" = None
    is_frozen: bool = False
    _was_ready: bool = False

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        alive = self.process is not None and self.process.poll() is None
        return self.process.pid if alive and self.process is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether it could lead."""
        if self.pid is None or self.is_frozen:
            return False
        self._was_ready = self._was_ready or self._answers()
        return self._was_ready

    def start(self) -> None:
        """Start it, once it has ended."""
        if self.process is not None:
            self.process.wait(_STOP_SECONDS)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace_dispatcher"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.pids.add(self.process.pid)
        self.is_frozen = self._was_ready = False

    def _answers(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.environment['PORT']}/health/live"
            return httpx.get(url, timeout=0.5).status_code == 200
        except httpx.TransportError:
            return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def freeze(self) -> None:
        """Stop its clockwork, in the middle of whatever it does."""
        self.send(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)
        self.is_frozen = False

    def stop(self) -> None:
        """Ask it to end."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a word."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(_STOP_SECONDS)


class Fleet:
    """All of them, on one database and one Redis."""

    def __init__(
        self,
        directory: Path,
        servers: Mapping[str, str],
        *,
        lease_seconds: float,
        clocks: tuple[int, ...],
    ) -> None:
        """Make it; nothing runs before `start`.

        Args:
            directory: for logs, and the clocks.
            servers: environment that says where the servers are.
            lease_seconds: of the leader.
            clocks: for each process, what its clock is off by in seconds.
        """
        plugins = directory / "plugins"
        declare(plugins)
        self.members: list[Member] = []
        for index, off_seconds in enumerate(clocks):
            paths = [str(plugins), str(_HERE)]
            environment = {
                "PATH": os.environ["PATH"],
                **servers,
                "DISPATCHER_ROLES": "scheduler",
                "SCHEDULER_LEASE_SECONDS": str(lease_seconds),
                "PORT": str(reserve_port()),
                "DATABASE_POOL_SIZE": "5",
                # Nobody is asked for an analysis.
                "ANALYSIS_SERVER_URL": "http://127.0.0.1:9/analyze",
                "WEBHOOK_URL": "http://127.0.0.1:9/webhooks/analysis",
                "CALLBACK_TOKEN_SECRETS": "d" * 32,
            }
            if off_seconds:
                clock = directory / f"clock-{index}"
                set_clock(clock, off_seconds)
                wrong = faketime_environment(ensure_faketime(), clock)
                paths.append(wrong.pop("PYTHONPATH"))
                environment |= wrong
            environment["PYTHONPATH"] = os.pathsep.join(paths)
            name = f"scheduler-{index}"
            log = directory / f"{name}.log"
            self.members.append(Member(name, environment, log, off_seconds))

    def start(self) -> None:
        """Start all that do not run, and thaw those that are frozen."""
        for member in self.members:
            if member.is_frozen:
                member.thaw()
            if member.pid is None:
                member.start()

    def ready(self) -> list[Member]:
        """Return those that could lead."""
        return [member for member in self.members if member.is_ready]

    def pids_with_wrong_clocks(self) -> set[int]:
        """Return the process ids that those had whose clock is wrong."""
        return {pid for member in self.members if member.clock_off_seconds for pid in member.pids}

    def by_pid(self, pid: int | None) -> Member | None:
        """Return the one with that process id."""
        found = [member for member in self.members if pid is not None and member.pid == pid]
        return found[0] if found else None

    def stop(self) -> None:
        """End all, with grace."""
        running = [member for member in self.members if member.pid is not None]
        for member in running:
            if member.is_frozen:
                member.thaw()
            member.stop()
        for member in running:
            assert member.process is not None
            try:
                member.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                member.kill()
