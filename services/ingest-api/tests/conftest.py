import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_harness import Backend, IngestApi, StartApi

from headrace_common.repeat import Repeater
from headrace_common.shifts import Shifts
from headrace_ingest_api.cleaning.housekeeping import HouseKeeping
from headrace_ingest_api.resources import Resources
from headrace_local.pytest_plugin import LocalServers

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def service_env(local_servers: LocalServers) -> dict[str, str]:
    namespace = f"ingest-{uuid.uuid4().hex[:8]}"
    quick = {
        "LOG_FORMAT": "json",
        "SHUTDOWN_GRACE_SECONDS": "5",
        "UPLOAD_PART_BYTES": str(5 * MIB),
        "DRAMATIQ_NAMESPACE": namespace,
        "REDIS_STREAM": f"stream:{namespace}",
    }
    return {**local_servers.env(), **quick}


@pytest.fixture(scope="session")
def backend(local_servers: LocalServers, service_env: dict[str, str]) -> Iterator[Backend]:
    made = Backend(service_env, api_key=local_servers.api_key)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def api(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestApi]:
    """The service as the tests mostly want it."""
    started = IngestApi(backend, tmp_path_factory.mktemp("ingest") / "log")
    try:
        started.wait_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def strict_api(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngestApi]:
    """The service with limits that a test reaches quickly."""
    started = IngestApi(
        backend,
        tmp_path_factory.mktemp("ingest") / "log",
        MAX_UPLOAD_BYTES=str(12 * MIB),
        UPLOAD_STALL_SECONDS="2",
        MAX_REFERENCE_BYTES="2000",
    )
    try:
        started.wait_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture
def start_api(backend: Backend, tmp_path: Path) -> Iterator[StartApi]:
    """Start the service with other settings."""
    started: list[IngestApi] = []

    def start(**changes: str) -> IngestApi:
        one = IngestApi(backend, tmp_path / f"ingest-{len(started)}.log", **changes)
        started.append(one)
        one.wait_alive()
        return one

    try:
        yield start
    finally:
        for one in started:
            one.stop()


@pytest.fixture
def tidying(backend: Backend) -> Iterator[None]:
    """Stand for the schedules: have what ended uploads left be removed again and again."""
    resources, shifts = Resources.make(backend.settings), Shifts(seconds=60)
    keeping = HouseKeeping(resources)

    def tidy() -> float:
        keeping.abort_uploads(shifts.begin())
        return 0.1

    repeater = Repeater("tidying", tidy)
    repeater.start()
    try:
        yield
    finally:
        repeater.ask_to_stop()
        repeater.join(timeout_seconds=10)
        resources.close()


@pytest.fixture
def token(api: IngestApi) -> str:
    """A token that no other test uses."""
    token_id = f"t-{uuid.uuid4().hex[:12]}"
    api.client.post("/tokens", json={"id": token_id}).raise_for_status()
    return token_id
