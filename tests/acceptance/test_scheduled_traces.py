"""The traces of what goes on later: a re-analysis by a schedule, a delay, a direct upload."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from otlp_receiver import OtlpReceiver
from planner import Planner
from stack_user import RECORDINGS, User
from trace_tree import Node, documented, paths_of, show, whole_tree

from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

CLIENT = "00f067aa0ba902b7"
BOBBY = RECORDINGS / "bobby.wav"
#: From the lane to the end, once.
ANALYSIS = ("SQS.DeleteMessage", "completed")


@pytest.fixture
def planner(user: User) -> Iterator[Planner]:
    someone = Planner(user.stack)
    yield someone
    someone.close()


def uploaded(user: User, **params: str) -> tuple[str, str]:
    """Upload a recording under a trace of our own; return the job's id, and the trace's."""
    token, trace = user.token(), secrets.token_hex(16)
    user.ingest.headers["traceparent"] = f"00-{trace}-{CLIENT}-01"
    try:
        return user.upload(token, BOBBY, **params)["job_id"], trace
    finally:
        del user.ingest.headers["traceparent"]


def finished(user: User, job_id: str, *, run: int = 1) -> dict[str, Any]:
    return wait_until(
        lambda: user.job(job_id),
        lambda job: job["status"] == "completed" and job["run"] == run,
        seconds=120,
    )


def assert_goes_to_its_end(begun: Node, job_id: str) -> None:
    """Check what follows from a message on the lane: dispatcher, SQS, analysis, webhook."""
    chain = [
        ("send audio_analysis", "dispatcher", "producer"),
        ("process audio_analysis", "dispatcher", "consumer"),
        ("send audio-analysis-queue", "dispatcher", "producer"),
        ("process audio-analysis-queue", "speech-analysis", "consumer"),
    ]
    node = begun
    for label in chain:
        [node] = [child for child in node.children if child.label == label]
    assert node.span.attributes["headrace.job_id"] == job_id
    told = ("headrace.job.status", {"headrace.job_id": job_id, "headrace.job.status": "completed"})
    [end] = [each.label for _, each in node.walk() if told in each.span.events]
    assert end == ("process analysis_reports", "results", "consumer")
    assert not [each.label for _, each in begun.walk() if each.span.failed]


def test_a_scheduled_reanalysis_goes_on_in_the_trace_of_its_job(
    user: User, planner: Planner, receiver: OtlpReceiver
) -> None:
    job_id, trace = uploaded(user)
    finished(user, job_id)
    name = planner.add_at(
        datetime.now(UTC) + timedelta(seconds=5), "audio.reanalyse", job_id=job_id
    )
    [firing] = planner.ended(name, "succeeded")
    assert (firing["job_id"], firing["job_run"]) == (job_id, 2)
    job = finished(user, job_id, run=2)
    assert job["trace_id"] == trace

    # The firing's own trace: when it was due, its message, and whoever performed it.
    fired = whole_tree(receiver, firing["trace_id"], "", "process schedule_firings").children
    [root] = fired
    show(root)
    assert root.label == ("fire audio.reanalyse", "dispatcher", "producer")
    assert root.span.attributes["headrace.schedule"] == name
    [performed] = [each for each in root.children if each.span.kind == "consumer"]
    about = (performed.span.attributes[f"headrace.{each}"] for each in ("firing_id", "job_id"))
    assert tuple(about) == (firing["id"], job_id)
    assert documented("A scheduled re-analysis", 0) <= paths_of(root)

    # What it began, in the trace of the job.
    tree = whole_tree(receiver, trace, CLIENT, *ANALYSIS, *ANALYSIS, "begin anew")
    [anew] = tree.find("begin anew", "dispatcher")
    show(anew)
    assert anew.span.kind == "internal"
    assert anew.span.links == [firing["trace_id"]]
    assert anew.span.attributes["headrace.job_id"] == job_id
    assert_goes_to_its_end(anew, job_id)
    assert documented("A scheduled re-analysis", 1) <= paths_of(anew)
    planner.remove(name)


def test_a_direct_upload_goes_on_in_the_trace_in_which_it_began(
    user: User, receiver: OtlpReceiver
) -> None:
    """Not in that of the request which completes it, which may come days later."""
    token, trace, content = user.token(), secrets.token_hex(16), BOBBY.read_bytes()
    begun = user.ingest.post(
        f"/tokens/{token}/direct-uploads",
        json={"filename": BOBBY.name, "size": len(content)},
        headers={"traceparent": f"00-{trace}-{CLIENT}-01"},
    ).json()
    [part] = begun["urls"]
    put = httpx.put(part["url"], content=content, headers=part["headers"], timeout=60)
    assert put.is_success, put.text
    job_id, asking = begun["job_id"], secrets.token_hex(16)
    completed = user.ingest.post(
        f"/direct-uploads/{job_id}/complete",
        headers={"traceparent": f"00-{asking}-{CLIENT}-01"},
    )
    assert completed.status_code == 200, completed.text
    assert finished(user, job_id)["trace_id"] == trace
    tree = whole_tree(receiver, trace, CLIENT, *ANALYSIS)
    [done] = tree.find("complete upload", "ingest-api")
    assert done.span.links == [asking]
    assert "S3.CompleteMultipartUpload" in {each.span.name for each in done.children}
    assert len(tree.find("process audio-analysis-queue", "speech-analysis")) == 1


def test_a_job_that_begins_later_is_one_trace(user: User, receiver: OtlpReceiver) -> None:
    job_id, trace = uploaded(user, delay="1")
    assert finished(user, job_id)["trace_id"] == trace
    tree = whole_tree(receiver, trace, CLIENT, *ANALYSIS)
    show(tree)
    [request] = tree.children
    assert not [each.label for each in request.children if each.span.kind == "producer"]
    [due] = [each for each in request.children if each.span.name == "queue due job"]
    assert due.label == ("queue due job", "dispatcher", "internal")
    told = {"headrace.job_id": job_id, "headrace.job.status": "queued"}
    assert ("headrace.job.status", told) in due.span.events
    assert due.span.start >= request.span.end
    assert_goes_to_its_end(due, job_id)
    assert documented("A job with a delay") <= paths_of(tree)
