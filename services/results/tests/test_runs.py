"""Reports on jobs that somebody had begun anew, and streams of them."""

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from results_harness import PATH, Bench, Collector, Replica

from headrace_common import webhooks
from headrace_common.contracts import ANALYSIS_PROGRESS, EventType, JobStatus
from headrace_common.jobs import Failure
from headrace_common.sqs import sqs_client

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.stack

DONE = {"status": "completed", "result": {"pitch_hz": 182.5}}
FAILURE = Failure("broken", "It broke")


@pytest.fixture
def replica(replicas: list[Replica]) -> Replica:
    return replicas[0]


def restart(bench: Bench, job_id: str, to: JobStatus = JobStatus.QUEUED_FOR_ANALYSIS) -> None:
    bench.change(job_id, JobStatus.QUEUED, starts_run=True, message="Begun anew")
    for status in (JobStatus.PROCESSING, JobStatus.QUEUED_FOR_ANALYSIS):
        if to is not JobStatus.QUEUED:
            bench.change(job_id, status)


def report(
    bench: Bench, replica: Replica, job_id: str, said: dict[str, Any], *, run: int
) -> dict[str, Any]:
    """Report as an analysis server that was asked in `run` does, over its callback URL."""
    url = webhooks.callback_url(f"{replica.url}{PATH}", job_id, token=bench.token(job_id), run=run)
    answer = httpx.post(url, json=said, timeout=30)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_report_of_an_earlier_run_is_recorded_and_changes_nothing(
    bench: Bench, replica: Replica
) -> None:
    job_id = bench.job()
    assert report(bench, replica, job_id, {"status": "processing", "progress": 40}, run=1) == {
        "status": "accepted",
        "job_id": job_id,
        "duplicate": False,
        "delivery": 1,
        "job_status": "queued_for_analysis",
        "stop": False,
    }
    bench.outcomes(job_id)
    restart(bench, job_id)
    before = bench.view(job_id)

    for said in ({"status": "processing", "progress": 90}, {"status": "failed"}, DONE):
        assert report(bench, replica, job_id, said, run=1)["stop"] is True
    assert bench.outcomes(job_id)[1:] == ["ignored: of run 1, the job is in run 2"] * 3
    after = bench.view(job_id)
    assert (after.status, after.progress, after.metadata) == (
        before.status,
        before.progress,
        before.metadata,
    )
    ignored = [event for event in bench.events(job_id) if event.type is EventType.IGNORED]
    assert [event.data["ignored_status"] for event in ignored] == ["failed", "completed"]

    assert report(bench, replica, job_id, DONE, run=2)["stop"] is False
    assert bench.outcomes(job_id)[-1] == "applied"
    assert bench.view(job_id).status is JobStatus.COMPLETED


def test_the_answer_says_when_nobody_wants_the_work_any_more(
    bench: Bench, replica: Replica
) -> None:
    job_id = bench.job()
    bench.change(job_id, JobStatus.CANCELLED)

    receipt = report(bench, replica, job_id, {"status": "processing", "progress": 10}, run=1)

    assert (receipt["job_status"], receipt["stop"]) == ("cancelled", True)
    assert bench.outcomes(job_id) == ["ignored: job is cancelled"]
    assert ANALYSIS_PROGRESS not in bench.view(job_id).metadata


def test_a_sign_of_life_is_answered_and_leaves_no_trace_but_the_time(
    bench: Bench, replica: Replica
) -> None:
    job_id = bench.job()
    alive = {"status": "processing", "heartbeat": True}
    before, events = bench.view(job_id), bench.events(job_id)

    for _ in range(2):
        receipt = report(bench, replica, job_id, alive, run=1)
        assert (receipt["stop"], receipt["job_status"]) == (False, "queued_for_analysis")
        assert (receipt["duplicate"], receipt["delivery"]) == (False, 1)
    after = bench.view(job_id)
    assert after.updated_at > before.updated_at
    assert after.model_copy(update={"updated_at": before.updated_at}) == before

    assert report(bench, replica, job_id, alive, run=2)["stop"] is True
    assert bench.view(job_id).updated_at == after.updated_at
    bench.change(job_id, JobStatus.CANCELLED)
    ended = bench.view(job_id)
    assert report(bench, replica, job_id, alive, run=1)["stop"] is True
    assert bench.view(job_id) == ended
    assert bench.inbox(job_id) == []
    assert len(bench.events(job_id)) == len(events) + 1
    unknown = f"{replica.url}{PATH}?job_id=nobody&token={bench.token('nobody')}"
    assert httpx.post(unknown, json=alive, timeout=30).status_code == 404


def test_what_else_is_called_a_heartbeat_is_a_report(bench: Bench, replica: Replica) -> None:
    """Fields of that name were kept and ignored before it meant anything."""
    job_id = bench.job()
    report(bench, replica, job_id, {"status": "processing", "heartbeat": "weekly"}, run=1)
    report(bench, replica, job_id, DONE | {"heartbeat": True}, run=1)
    assert bench.outcomes(job_id) == ["applied", "applied"]


def test_a_result_queue_may_tell_the_run(bench: Bench, replica: Replica) -> None:
    sqs: SQSClient = sqs_client(bench.settings)
    url = bench.settings.sqs_result_queue_url
    assert url is not None
    job_id, untold = bench.job(), bench.job()
    for one in (job_id, untold):
        restart(bench, one)
    bodies = [
        DONE | {"job_id": job_id, "job_run": 1},
        DONE | {"job_id": untold},
    ]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))

    assert bench.outcomes(job_id) == ["ignored: of run 1, the job is in run 2"]
    assert bench.outcomes(untold) == ["applied"]
    assert bench.inbox(untold)[0].run is None


def test_a_stream_goes_on_past_the_end_of_an_earlier_run(bench: Bench, replica: Replica) -> None:
    job_id = bench.job()
    follower = Collector(bench, replica, job_id)
    bench.change(job_id, JobStatus.FAILED, failure=FAILURE)
    follower.end()
    last = follower.ids[-1]

    restart(bench, job_id)
    again = Collector(bench, replica, job_id, last=str(last))
    fresh = Collector(bench, replica, job_id)
    fresh.wait_for(len(bench.events(job_id)))
    bench.change(job_id, JobStatus.COMPLETED)
    again.end()
    fresh.end()

    total = len(bench.events(job_id))
    assert fresh.ids == list(range(1, total + 1))
    assert again.ids == list(range(last + 1, total + 1))
    assert again.seen[1].event == "restarted"
