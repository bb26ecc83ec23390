import uuid
from collections.abc import Iterator

import pytest
from results_harness import Bench, Replica

from headrace_local.pytest_plugin import LocalServers

#: Short enough that a test need not wait, long enough that a slow machine stays in order.
QUICK = {
    "INBOX_RETRY_SECONDS": "1",
    "INBOX_SWEEP_SECONDS": "0.3",
    "SQS_RESULT_WAIT_SECONDS": "1",
    "SSE_POLL_SECONDS": "0.5",
    "SSE_SAFETY_POLL_SECONDS": "2",
    "SHUTDOWN_GRACE_SECONDS": "10",
    "LOG_FORMAT": "json",
}


@pytest.fixture(scope="session")
def service_env(local_servers: LocalServers) -> dict[str, str]:
    """What every replica of this suite gets."""
    namespace = f"results-{uuid.uuid4().hex[:8]}"
    return {**local_servers.env(), **QUICK, "DRAMATIQ_NAMESPACE": namespace}


@pytest.fixture(scope="session")
def replicas(
    service_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Replica]]:
    """Two replicas of the service, as processes."""
    logs = tmp_path_factory.mktemp("results")
    started = [Replica(service_env, logs / f"replica-{number}.log") for number in (1, 2)]
    try:
        for replica in started:
            replica.start()
        for replica in started:
            replica.wait_ready()
        yield started
    finally:
        for replica in started:
            replica.stop()


@pytest.fixture(scope="session")
def bench(local_servers: LocalServers, service_env: dict[str, str]) -> Iterator[Bench]:
    """The database, jobs in it, and the right to report on them."""
    made = Bench(service_env, api_key=local_servers.api_key)
    try:
        yield made
    finally:
        made.close()
