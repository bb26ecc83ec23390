"""The SQS emulator ministack, in an environment of its own and with durable queues."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from headrace_local import tools
from headrace_local.addresses import Addresses
from headrace_local.credentials import Credentials
from headrace_local.process import Launch
from headrace_local.program import Server

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_LAUNCHER = Path(__file__).with_name("ministack_launcher.py")


class Sqs(Server):
    """The SQS server. It takes every credential, so that only friends may reach it."""

    name = "sqs"
    stop_grace: ClassVar[float] = 10

    def __init__(
        self,
        data: Path,
        environment: Mapping[str, str],
        *,
        credentials: Credentials,
        addresses: Addresses = Addresses(),  # noqa: B008 - frozen
    ) -> None:
        """Make it; `credentials` are those that its clients use, `addresses` where it listens."""
        super().__init__(data, environment)
        self._credentials = credentials
        self._addresses = addresses

    def prepare(self) -> None:
        """Install the emulator where it is missing."""
        tools.ensure_ministack()

    def launch(self) -> Launch:
        """Return how to start it."""
        command = [
            *(str(tools.ensure_ministack()), "-I", str(_LAUNCHER)),
            *("--host", self._addresses.listen, "--port", str(self.port)),
        ]
        environment = {
            **self.environment,
            "SERVICES": "sqs",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.data),
            "LOG_LEVEL": "WARNING",
            # It sweeps containers of its own kind at the start; they may be someone else's.
            "DOCKER_HOST": f"unix://{self.data}/no-docker.sock",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
        }
        return Launch(command, environment, cwd=self.data)

    @cached_property
    def client(self) -> "SQSClient":
        """A client with the stack's keys."""
        from headrace_local.clients import local_sqs_client  # noqa: PLC0415 - loads while the server starts

        return local_sqs_client(
            self.url,
            aws_access_key_id=self._credentials.access_key_id,
            aws_secret_access_key=self._credentials.secret_access_key,
        )

    def probe(self) -> None:
        """List the queues."""
        self.client.list_queues()
