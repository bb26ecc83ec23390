"""Reports that come over SQS (A10)."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from results_harness import Bench, Replica, running

from headrace_common.contracts import JobStatus
from headrace_common.sqs import sqs_client
from headrace_local.waiting import wait_until

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.stack

DONE = {"status": "completed", "result": {"pitch_hz": 182.5}}


@pytest.fixture(scope="module")
def sqs(bench: Bench) -> "SQSClient":
    return sqs_client(bench.settings)


@pytest.fixture
def queue_url(bench: Bench, replicas: list[Replica]) -> str:
    assert bench.settings.sqs_result_queue_url is not None
    return bench.settings.sqs_result_queue_url


@pytest.fixture
def own_queues(sqs: "SQSClient") -> Iterator[tuple[str, str]]:
    """A queue that dead-letters at the second receive, and its dead-letter queue."""
    name = uuid.uuid4().hex[:8]
    dead = sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": "2"}
    attributes: Any = {"VisibilityTimeout": "2", "RedrivePolicy": json.dumps(redrive)}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    yield url, dead
    for queue in (url, dead):
        sqs.delete_queue(QueueUrl=queue)


def left_in(sqs: "SQSClient", queue_url: str) -> int:
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return sum(int(value) for value in answer["Attributes"].values())


def test_a_message_completes_the_job(bench: Bench, sqs: "SQSClient", queue_url: str) -> None:
    job_id, trace = bench.job(), uuid.uuid4().hex
    sqs.send_message(
        QueueUrl=queue_url,
        MessageBody=json.dumps(DONE | {"job_id": job_id}),
        MessageAttributes={
            "traceparent": {
                "DataType": "String",
                "StringValue": f"00-{trace}-00f067aa0ba902b7-01",
            }
        },
    )

    wait_until(lambda: bench.inbox(job_id))
    assert bench.outcomes(job_id) == ["applied"]
    row = bench.inbox(job_id)[0]
    assert (row.source, row.trace["traceparent"].split("-")[1]) == ("sqs", trace)
    assert bench.view(job_id).status is JobStatus.COMPLETED
    wait_until(lambda: left_in(sqs, queue_url) == 0)


def test_what_comes_again_counts_once(bench: Bench, sqs: "SQSClient", queue_url: str) -> None:
    job_id = bench.job()
    body = json.dumps(DONE | {"job_id": job_id})
    for _ in range(3):
        sqs.send_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(number), "MessageBody": body} for number in range(10)],
        )

    wait_until(lambda: [row.deliveries for row in bench.inbox(job_id)] == [30])
    assert bench.outcomes(job_id) == ["applied"]
    assert [event.status for event in bench.events(job_id)].count(JobStatus.COMPLETED) == 1


def test_webhook_and_queue_may_both_answer(
    bench: Bench, sqs: "SQSClient", queue_url: str, replicas: list[Replica]
) -> None:
    job_id = bench.job()
    body = DONE | {"job_id": job_id}
    bench.report(replicas[0], job_id, body)
    sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps(body))

    wait_until(lambda: len(bench.inbox(job_id)) == 2)
    assert sorted(bench.outcomes(job_id)) == ["applied", "ignored: job is completed"]


def test_what_is_no_report_goes_to_the_dead_letters_and_stops_nobody(
    bench: Bench,
    sqs: "SQSClient",
    service_env: dict[str, str],
    own_queues: tuple[str, str],
    tmp_path: Path,
) -> None:
    url, dead = own_queues
    job_id = bench.job()
    bad = ["nonsense", json.dumps(DONE), json.dumps(DONE | {"job_id": "unknown"})]
    sqs.send_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": str(number), "MessageBody": body}
            for number, body in enumerate([*bad, json.dumps(DONE | {"job_id": job_id})])
        ],
    )
    with running(service_env, tmp_path / "log", SQS_RESULT_QUEUE_URL=url) as replica:
        wait_until(lambda: bench.inbox(job_id))
        assert bench.outcomes(job_id) == ["applied"]
        wait_until(lambda: left_in(sqs, dead) == 3 and left_in(sqs, url) == 0)
        assert replica.log.count('"result_queue.message_left"') >= 3


def test_a_lost_queue_is_waited_for(
    bench: Bench, sqs: "SQSClient", service_env: dict[str, str], tmp_path: Path
) -> None:
    assert bench.settings.sqs_result_queue_url is not None
    name = f"late-{uuid.uuid4().hex[:8]}"
    url = f"{bench.settings.sqs_result_queue_url.rpartition('/')[0]}/{name}"
    with running(service_env, tmp_path / "log", SQS_RESULT_QUEUE_URL=url) as replica:
        wait_until(lambda: "repeat.failed" in replica.log)
        made = sqs.create_queue(QueueName=name)["QueueUrl"]
        job_id = bench.job()
        sqs.send_message(QueueUrl=made, MessageBody=json.dumps(DONE | {"job_id": job_id}))
        wait_until(lambda: bench.inbox(job_id))
    sqs.delete_queue(QueueUrl=made)
