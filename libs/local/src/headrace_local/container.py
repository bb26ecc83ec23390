"""`python -m headrace_local.container NAME`: one of our own servers as the process of a container.

docker-compose.yml runs the SQS emulator, Keystone and Swift this way: the same software with the
same configuration as in the local stack, told by environment where the stack has a directory:

    DATA_DIR                 where the server keeps its things
    KEYSTONE_ADMIN_PASSWORD  and the other secrets of `headrace_local.credentials`, in capitals

`python -m headrace_local.container buckets` makes the bucket, as an installation's first step.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from headrace_common.settings import S3Settings
from headrace_common.storage import ensure_bucket, s3_client
from headrace_local.addresses import Addresses
from headrace_local.credentials import Credentials
from headrace_local.program import Server
from headrace_local.servers.keystone import Keystone
from headrace_local.servers.sqs import Sqs
from headrace_local.servers.swift import Swift

#: The usual port of each; Swift's storage servers are reached within its container only.
PORTS: Final = {
    "sqs": 4566,
    "keystone": 5000,
    "swift": 8080,
    "swift-account": 6202,
    "swift-container": 6201,
    "swift-object": 6200,
}
_ADDRESSES: Final = Addresses(listen="0.0.0.0", keystone="keystone", swift="swift")  # noqa: S104

_SERVERS: Final[dict[str, Callable[..., Server]]] = {
    server.name: server for server in (Sqs, Keystone, Swift)
}
#: The secrets that each stands on.
_SECRETS: Final[dict[str, tuple[str, ...]]] = {
    Sqs.name: (),
    Keystone.name: ("keystone_admin_password", "openstack_password", "swift_password"),
    Swift.name: (
        *("swift_password", "swift_storage_key"),
        *("swift_hash_prefix", "swift_hash_suffix"),
    ),
}


def read_credentials(name: str, environment: Mapping[str, str]) -> Credentials:
    """Return the secrets of a server.

    Raises:
        SystemExit: one is missing. A new one at each start would lose what is stored.
    """
    missing = [secret.upper() for secret in _SECRETS[name] if not environment.get(secret.upper())]
    if missing:
        raise SystemExit(f"{name} needs {', '.join(missing)}")
    return Credentials.model_validate(
        {secret: environment[secret.upper()] for secret in _SECRETS[name]}
    )


def make_server(name: str, environment: Mapping[str, str]) -> Server:
    """Make a server, ready to be launched.

    Args:
        name: of the server.
        environment: of this process.
    """
    # What is a secret of another server's is none of its business once it is written down.
    secret = {field.upper() for field in Credentials.model_fields}
    kept = {key: value for key, value in environment.items() if key not in secret}
    server = _SERVERS[name](
        Path(environment["DATA_DIR"]),
        kept,
        credentials=read_credentials(name, environment),
        addresses=_ADDRESSES,
    )
    server.use_ports(PORTS)
    server.prepare()
    return server


def run(server: Server) -> None:
    """Become the server."""
    launch = server.launch()
    os.chdir(launch.cwd)
    os.execve(launch.command[0], list(launch.command), dict(launch.env))  # noqa: S606


def main() -> None:
    """Run what the command line names."""
    match sys.argv[1:]:
        case ["buckets"]:
            settings = S3Settings.load()
            ensure_bucket(s3_client(settings), settings.s3_bucket)
        case [name] if name in _SERVERS:
            run(make_server(name, os.environ))
        case _:
            raise SystemExit(f"usage: python -m {__spec__.name} buckets|{'|'.join(_SERVERS)}")


if __name__ == "__main__":
    main()
