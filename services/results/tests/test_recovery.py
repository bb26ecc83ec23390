"""What is left over is taken up: lost messages, killed processes, reports that never apply."""

import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from results_harness import PATH, Bench, Replica, running, settings_of

from headrace_common.contracts import JobStatus
from headrace_common.db import InboxReport
from headrace_local.waiting import wait_until
from headrace_results.app import build_app

if TYPE_CHECKING:
    from headrace_local.pytest_plugin import LocalServers


def leave(bench: Bench, job_id: str, payload: dict[str, object], *, attempts: int = 0) -> int:
    """Leave a report in the inbox that no message tells of."""
    with bench.database.begin() as session:
        row = InboxReport(
            dedup_key=uuid.uuid4().hex,
            job_id=job_id,
            source="webhook",
            payload=payload,
            attempts=attempts,
        )
        session.add(row)
        session.flush()
        return row.id


@pytest.mark.stack
def test_a_report_without_a_message_is_applied(bench: Bench, replicas: list[Replica]) -> None:
    job_id = bench.job()
    leave(bench, job_id, {"status": "completed", "result": {"a": 1}})

    assert bench.outcomes(job_id) == ["applied"]
    assert bench.view(job_id).result == {"a": 1}


@pytest.mark.stack
def test_many_of_them_are_applied_once_each_by_any_replica(
    bench: Bench, replicas: list[Replica]
) -> None:
    jobs = [bench.job() for _ in range(30)]
    for number in range(8):
        for job_id in jobs:
            leave(bench, job_id, {"status": "processing", "progress": number})

    for job_id in jobs:
        assert len(bench.outcomes(job_id)) == 8
        assert len(bench.events(job_id)) == 5 + 8


@pytest.mark.stack
def test_a_report_on_a_purged_job_is_settled(bench: Bench, replicas: list[Replica]) -> None:
    gone = f"purged-{uuid.uuid4()}"
    leave(bench, gone, {"status": "completed"})

    assert bench.outcomes(gone) == ["ignored: job was purged"]


@pytest.mark.stack
@pytest.mark.parametrize("attempts", [0, 2], ids=["it fails each time", "it kills its process"])
def test_a_report_that_can_never_be_applied_is_set_aside(
    bench: Bench, service_env: dict[str, str], tmp_path: Path, attempts: int
) -> None:
    job_id = bench.job()
    # Not quicker: an attempt that a busy machine is slow with would count as two.
    quick = {"INBOX_MAX_ATTEMPTS": "2", "INBOX_RETRY_SECONDS": "0.5"}
    with running(service_env, tmp_path / "log", **quick) as replica:
        inbox_id = leave(bench, job_id, {"status": "of a later version"}, attempts=attempts)

        def outcome() -> str:
            return bench.inbox(job_id)[0].outcome or ""

        wait_until(lambda: outcome().startswith("poisoned: gave up after"))
        assert bench.inbox(job_id)[0].applied_at is None
        wait_until(lambda: f'"inbox_id": {inbox_id}' in replica.log)
        shown = bench.get(replica, f"/jobs/{job_id}/reports").json()["reports"]
        assert shown[0]["outcome"] == outcome()
        # It stops nobody, and nobody tries it again.
        before = bench.inbox(job_id)[0].attempts
        bench.report(replica, job_id, {"status": "completed"})
        wait_until(lambda: bench.view(job_id).status is JobStatus.COMPLETED)
        assert bench.inbox(job_id)[0].attempts == before


@pytest.mark.stack
def test_a_process_that_is_killed_loses_no_report(
    bench: Bench, service_env: dict[str, str], replicas: list[Replica], tmp_path: Path
) -> None:
    jobs = [bench.job() for _ in range(20)]
    # A queue of its own, so that its messages die with it.
    alone = {"DRAMATIQ_NAMESPACE": f"alone-{uuid.uuid4().hex[:8]}"}
    with running(service_env, tmp_path / "log", **alone) as replica:
        for job_id in jobs:
            answer = bench.report(replica, job_id, {"status": "completed"})
            assert answer.status_code == 202
        replica.process.send_signal(signal.SIGKILL)
        replica.process.wait()

    for job_id in jobs:
        assert bench.outcomes(job_id) == ["applied"]


@pytest.mark.stack
def test_the_service_starts_without_redis_and_finds_it_later(
    bench: Bench, service_env: dict[str, str], tmp_path: Path, local_servers: "LocalServers"
) -> None:
    job_id = bench.job()
    local_servers.stop("valkey")
    try:
        with running(service_env, tmp_path / "log") as replica:
            assert bench.report(replica, job_id, {"status": "running"}).status_code == 202
            assert bench.outcomes(job_id) == ["applied"]
            local_servers.start("valkey")
            wait_until(lambda: replica.metric("headrace_sse_hub_connected") == 1)
            assert httpx.get(f"{replica.url}/health/live", timeout=30).status_code == 200
    finally:
        local_servers.start("valkey")


def test_the_app_is_described_without_any_server() -> None:
    settings = settings_of(
        {
            "DATABASE_URL": "postgresql://127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "WEBHOOK_URL": f"http://127.0.0.1{PATH}",
            "WEBHOOK_SECRETS": "whsec_" + "A" * 32,
            "SQS_RESULT_QUEUE_URL": "http://127.0.0.1:1/000000000000/results",
            "SQS_ENDPOINT_URL": "http://127.0.0.1:1",
        }
    )

    described = build_app(settings).openapi()

    assert {path for path in described["paths"] if not path.startswith("/health")} == {
        PATH,
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/timeline",
        "/jobs/{job_id}/reports",
        "/jobs/{job_id}/events",
        "/jobs/{job_id}/artifacts",
        "/jobs/{job_id}/artifacts/{name}",
    }
    missing = [
        name for name in _references(described) if name not in described["components"]["schemas"]
    ]
    assert missing == []
    body = described["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["status"]


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return own + [name for item in value.values() for name in _references(item)]
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    return []
