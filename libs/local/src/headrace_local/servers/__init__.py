"""The servers: Valkey, PostgreSQL, S3 (SeaweedFS), an SQS emulator, Keystone and Swift."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headrace_local.credentials import Credentials
from headrace_local.layout import StackLayout
from headrace_local.program import Server
from headrace_local.servers.keystone import Keystone
from headrace_local.servers.postgres import Postgres
from headrace_local.servers.seaweedfs import SeaweedFS
from headrace_local.servers.sqs import Sqs
from headrace_local.servers.swift import Swift
from headrace_local.servers.valkey import Valkey

#: In the order in which they are listed; they start at the same time.
SERVER_NAMES: Final = ("valkey", "postgres", "s3", "sqs", "keystone", "swift")


def make_servers(
    layout: StackLayout,
    credentials: Credentials,
    environment: Mapping[str, str],
    advertised: Mapping[str, int] = MappingProxyType({}),
) -> list[Server]:
    """Make all servers of the stack.

    Args:
        layout: the stack's paths; the data directories are created.
        credentials: the stack's secrets.
        environment: what every process of the stack gets.
        advertised: ports at which services reach servers, where those are not their own.
    """
    data = {name: layout.create_data(name) for name in SERVER_NAMES}
    return [
        Valkey(data["valkey"], environment, password=credentials.valkey_password),
        Postgres(data["postgres"], environment, password=credentials.postgres_password),
        SeaweedFS(data["s3"], environment, credentials=credentials),
        Sqs(data["sqs"], environment, credentials=credentials),
        Keystone(
            data["keystone"],
            environment,
            credentials=credentials,
            object_store_port=advertised.get("swift"),
        ),
        Swift(data["swift"], environment, credentials=credentials),
    ]
