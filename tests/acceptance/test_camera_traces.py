"""The trace of a camera job, of the producer's entry and of a client's request."""

import secrets
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from camera_yard import STREAM, Yard
from otlp_receiver import OtlpReceiver
from trace_tree import Node, documented, paths_of, show, whole_tree

from headrace_common.telemetry.trace import trace_of_job
from headrace_local.pytest_plugin import LocalStack
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

PRODUCER = "00f067aa0ba902b7"
REPORTS = f"{STREAM}:reports"
STAGES = ["reading", "background", "uploading", "detecting", "uploading", "uploading"]


@pytest.fixture(scope="module")
def yard(camera_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(camera_stack, tmp_path_factory.mktemp("clip"))
    yield made
    made.close()


def finished(yard: Yard, job_id: str) -> dict[str, Any]:
    wait_until(lambda: yard.is_final(job_id), seconds=120)
    job = yard.job(job_id)
    assert job is not None
    return job


def assert_work_is_whole(top: Node, job_id: str) -> None:
    """Check what hangs below the span, or the context, that a job's entry carried."""
    [work] = [
        each
        for each in top.children
        if each.label == (f"process {STREAM}", "gpu-preprocessor", "consumer")
    ]
    assert work.span.attributes["headrace.job_id"] == job_id
    assert work.span.attributes["messaging.consumer.group.name"] == "workers"
    stages = [each for each in work.children if each.span.name.startswith("preprocess.")]
    assert [each.span.name for each in stages] == [f"preprocess.{name}" for name in STAGES]
    assert {each.span.kind for each in stages} == {"internal"}
    [known] = [
        each for each in top.children if each.label == (f"process {STREAM}", "results", "consumer")
    ]
    assert known.span.attributes["messaging.consumer.group.name"] == "results"
    puts = [each for each in work.find("PUT") if f"/{job_id}/" in each.span.attributes["url.full"]]
    assert len(puts) == 5
    assert all(each.span.attributes["http.response.status_code"] == 201 for each in puts)

    # Every report goes all the way; the last brings the end.
    sent = work.find(f"send {REPORTS}", "gpu-preprocessor")
    assert len(sent) >= 2  # those on stages that are over soon may be left out
    for each in sent:
        [taken] = [child for child in each.children if child.span.kind == "consumer"]
        assert taken.label == (f"process {REPORTS}", "results", "consumer")
        [queued] = taken.children
        assert queued.label == ("send analysis_reports", "results", "producer")
        [applied] = [child for child in queued.children if child.span.kind == "consumer"]
        assert applied.label == ("process analysis_reports", "results", "consumer")
    told = ("headrace.job.status", {"headrace.job_id": job_id, "headrace.job.status": "completed"})
    [end] = [each for _, each in top.walk() if told in each.span.events]
    assert end.label == ("process analysis_reports", "results", "consumer")
    assert end is sent[-1].find("process analysis_reports")[0]
    # Whether something is there already is asked, and mostly it is not.
    failed = [each.span for _, each in top.walk() if each.span.failed]
    assert {each.attributes.get("http.response.status_code") for each in failed} <= {404}


def test_a_camera_job_is_one_trace_from_its_entry_to_the_last_event(
    yard: Yard, receiver: OtlpReceiver
) -> None:
    of_producer, of_client = secrets.token_hex(16), secrets.token_hex(16)
    job_id, asked = str(uuid4()), time.time()
    secret = f"{yard.vod}?token=s3cret"
    yard.redis.xadd(
        STREAM,
        {
            "cctvId": "traced",
            "hls": secret,
            "sec": "2",
            "attempt": "0",
            "jobId": job_id,
            "enqueuedAt": str(round(asked * 1_000)),
            "traceparent": f"00-{of_producer}-{PRODUCER}-01",
        },
    )
    answer = yard.user.ingest.post(
        "/cctv/asked/preprocess",
        json={"hls": yard.vod, "sec": 2},
        headers={"traceparent": f"00-{of_client}-{PRODUCER}-01"},
    )
    assert answer.is_success, answer.text
    asked_id, silent_id = answer.json()["job_id"], yard.add(yard.vod, sec=2)
    # Who told of no trace gets one by the job's id, on which all who read the entry agree.
    _, of_silent, parent, _ = trace_of_job(silent_id)["traceparent"].split("-")
    for each, trace in ((job_id, of_producer), (asked_id, of_client), (silent_id, of_silent)):
        job = finished(yard, each)
        assert (job["status"], job["trace_id"]) == ("completed", trace)

    tree = whole_tree(receiver, of_producer, PRODUCER, "completed")
    show(tree)
    assert_work_is_whole(tree, job_id)
    assert tree.span.start >= asked - 0.01
    assert documented("A camera job") <= paths_of(tree)

    tree = whole_tree(receiver, of_client, PRODUCER, "completed")
    [request] = tree.children
    assert request.label == ("POST /cctv/{cctv_id}/preprocess", "ingest-api", "server")
    assert request.span.attributes["headrace.job_id"] == asked_id
    [sent] = [each for each in request.children if each.span.kind == "producer"]
    assert sent.label == (f"send {STREAM}", "ingest-api", "producer")
    assert_work_is_whole(sent, asked_id)

    assert_work_is_whole(whole_tree(receiver, of_silent, parent, "completed"), silent_id)

    raw = b"".join(receiver.raw)
    assert b"s3cret" not in raw
    assert yard.env["OS_PASSWORD"].encode() not in raw
