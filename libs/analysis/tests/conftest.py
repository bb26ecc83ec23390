import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_common.settings import SqsSettings
from headrace_common.sqs import ensure_queues, sqs_client
from headrace_local.pytest_plugin import LocalServers

# The suite imports by path (importlib mode), which leaves the helpers beside the tests unseen.
sys.path.insert(0, str(Path(__file__).parent))

from harness import Bench, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def bench(receiver: Receiver, local_servers: LocalServers) -> Iterator[Bench]:
    keys = local_servers.aws_credentials
    environment = {
        "sqs_endpoint_url": local_servers.sqs_endpoint_url,
        "aws_region": keys["region_name"],
        "aws_access_key_id": keys["aws_access_key_id"],
        "aws_secret_access_key": keys["aws_secret_access_key"],
    }
    client = sqs_client(SqsSettings(**environment))
    queues = ensure_queues(client, prefix=f"t{uuid.uuid4().hex[:10]}-")
    yield Bench(client, queues, receiver, environment)
    for url in {*queues.by_lane.values(), queues.results}:
        client.delete_queue(QueueUrl=url)
        client.delete_queue(QueueUrl=f"{url}-dlq")
    client.close()
