"""The trace of a recording, as a collector gets it from every service."""

import secrets
import time

from otlp_receiver import OtlpReceiver
from stack_user import User
from trace_tree import documented, paths_of, show, whole_tree

from headrace_local.waiting import wait_until

CLIENT = "00f067aa0ba902b7"
UPLOAD = "POST /tokens/{token_id}/upload-audio"


def test_a_recording_is_one_trace_from_the_request_to_the_last_event(
    user: User, receiver: OtlpReceiver
) -> None:
    token, trace = user.token(), secrets.token_hex(16)
    asked = time.time()
    user.ingest.headers["traceparent"] = f"00-{trace}-{CLIENT}-01"
    try:
        job_id = user.upload(token)["job_id"]
    finally:
        del user.ingest.headers["traceparent"]
    job = wait_until(
        lambda: user.job(job_id), lambda job: job["status"] == "completed", seconds=120
    )
    assert job["trace_id"] == trace
    tree = whole_tree(receiver, trace, CLIENT, "SQS.DeleteMessage", "completed")
    show(tree)

    # Which span leads to which, once each.
    chain = [
        (UPLOAD, "ingest-api", "server"),
        ("send audio_analysis", "ingest-api", "producer"),
        ("process audio_analysis", "dispatcher", "consumer"),
        ("send audio-analysis-queue", "dispatcher", "producer"),
        ("process audio-analysis-queue", "speech-analysis", "consumer"),
    ]
    node = tree
    for label in chain:
        [node] = [child for child in node.children if child.label == label]
    analysis = node
    [dispatched] = tree.find("process audio_analysis")
    changes = [told["headrace.job.status"] for _, told in dispatched.span.events]
    assert changes == ["processing", "queued_for_analysis"]
    assert {dispatched.span.attributes["headrace.attempt"]} == {1}
    [upload] = tree.children
    assert len(upload.find("S3.PutObject")) == 1 + 2
    assert [each.span.service for each in upload.children if each.span.name == "S3.PutObject"] == [
        "ingest-api"
    ]
    for name in ("send audio_analysis", "send audio-analysis-queue"):
        [sent] = tree.find(name)
        [received] = [each for each in sent.children if each.span.name.startswith("receive ")]
        assert received.span.kind == "client"
        assert sent.span.attributes["messaging.operation.name"] == "send"
    [call] = tree.find("SQS.SendMessageBatch")
    assert (call.span.kind, call.span.service) == ("client", "dispatcher")
    assert call.span.attributes["rpc.system"] == "aws-api"
    assert [each.span.name for each in analysis.children if each.span.name.startswith("S3.")] == [
        *("S3.GetObject", "S3.PutObject", "S3.PutObject")
    ]
    assert len(analysis.find("SQS.DeleteMessage")) == 1

    # The webhook that told of the end, and what came of it.
    posts = [each for each in analysis.children if each.span.name == "POST"]
    assert all(
        [child.label for child in post.children]
        == [("POST /webhooks/analysis", "results", "server")]
        for post in posts
    )
    told = ("headrace.job.status", {"headrace.job_id": job_id, "headrace.job.status": "completed"})
    [last] = [
        post.children[0]
        for post in posts
        if any(told in each.span.events for _, each in post.walk())
    ]
    assert last.span.attributes["http.response.status_code"] == 202
    [queued] = last.children
    assert queued.label == ("send analysis_reports", "results", "producer")
    [applied] = [each for each in queued.children if each.span.kind == "consumer"]
    assert applied.label == ("process analysis_reports", "results", "consumer")
    assert [each.label for _, each in tree.walk() if told in each.span.events] == [applied.label]

    about_it = [each for _, each in tree.walk() if each.span.kind in {"server", "consumer"}]
    assert {each.span.attributes["headrace.job_id"] for each in about_it} == {job_id}
    assert not [each.label for _, each in tree.walk() if each.span.failed]
    assert tree.span.start >= asked - 0.01
    assert tree.span.end <= time.time()
    for _, each in tree.walk():
        assert each.span.end >= each.span.start
        # A message says to the millisecond when it was made, which is some time before it is sent.
        inner = [child for child in each.children if not child.span.name.startswith("receive ")]
        assert all(child.span.start >= each.span.start - 0.005 for child in inner)
    assert min(each.span.start for _, each in tree.walk()) >= asked - 0.01

    assert documented("A recording") <= paths_of(tree)


def test_what_is_exported_holds_no_secret(user: User, receiver: OtlpReceiver) -> None:
    """After the test before it: spans with callback URLs, S3, SQS and keys of the API."""
    sent = b"".join(receiver.raw)
    assert b"/webhooks/analysis" in sent
    assert b"token=[redacted]" in sent
    env = user.state.env
    for secret in (
        *(env[name] for name in ("AWS_SECRET_ACCESS_KEY", "REDIS_PASSWORD", "WEBHOOK_SECRETS")),
        *(env["CALLBACK_TOKEN_SECRETS"], user.state.api_key or ""),
        env["DATABASE_URL"].split(":")[2].split("@")[0],
    ):
        assert len(secret) >= 7
        assert secret.encode() not in sent


def test_probes_and_polls_are_no_traces(user: User, receiver: OtlpReceiver) -> None:
    for _ in range(3):
        user.ingest.get("/health/ready")
        user.ingest.get("/metrics")
    names = {span.name for span in receiver.all()}
    assert UPLOAD in names
    assert not [name for name in names if "/health" in name or "/metrics" in name]
    assert "SQS.ReceiveMessage" not in names
