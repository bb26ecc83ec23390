import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from analysis_bench import Bench, Receiver

from headrace_common.settings import SqsSettings
from headrace_common.sqs import ensure_queues, sqs_client
from headrace_local.pytest_plugin import LocalServers


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def bench(receiver: Receiver, local_servers: LocalServers) -> Iterator[Bench]:
    found = local_servers.require("sqs").state.env
    names = ("SQS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment: dict[str, Any] = {name.lower(): found[name] for name in names}
    client = sqs_client(SqsSettings(**environment))
    queues = ensure_queues(client, prefix=f"t{uuid.uuid4().hex[:10]}-")
    yield Bench(client, queues, receiver, environment)
    for url in {*queues.by_lane.values(), queues.results}:
        client.delete_queue(QueueUrl=url)
        client.delete_queue(QueueUrl=f"{url}-dlq")
    client.close()
