"""The worker against the real SQS server and a real receiver."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from analysis_bench import SECRET, VISIBILITY, Bench, Report

from headrace_analysis import AnalysisError, AnalysisOutcome, AnalysisServer, AnalysisTask
from headrace_analysis.sqs_source import SqsDelivery
from headrace_common import webhooks
from headrace_common.contracts import Lane
from headrace_common.errors import UnauthorizedError, UnavailableError, UnprocessableError
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def simple(task: AnalysisTask) -> AnalysisOutcome:
    return AnalysisOutcome({"job": task.job_id}, "Done")


class Blocking:
    """A handler that holds its tasks until told."""

    def __init__(self) -> None:
        self.started: list[AnalysisTask] = []
        self.go = threading.Event()

    def __call__(self, task: AnalysisTask) -> dict[str, object]:
        self.started.append(task)
        while not self.go.wait(0.05):
            task.check()
        return {}


def test_a_result_is_reported_signed_and_the_message_deleted(bench: Bench) -> None:
    job_id = bench.send(trace=TRACE)
    with bench.running(simple):
        wait_until(lambda: bench.receiver.of(job_id) and bench.is_empty())
    (report,) = bench.receiver.of(job_id)
    assert report.body["status"] == "completed"
    assert report.body["result"] == {"job": job_id}
    assert report.body["message"] == "Done"
    assert report.message_id is not None
    assert report.headers["traceparent"].split("-")[1] == TRACE["traceparent"].split("-")[1]


def test_answers_can_go_to_the_result_queue(bench: Bench) -> None:
    job_id = bench.send(trace=TRACE)
    with bench.running(simple, answer_via="queue"):
        wait_until(bench.is_empty)
    (message,) = bench.sqs.receive_message(
        QueueUrl=bench.queues.results, MessageAttributeNames=["All"], WaitTimeSeconds=2
    )["Messages"]
    assert json.loads(message["Body"])["result"] == {"job": job_id}
    attributes = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
    assert attributes["job_type"] == "audio_analysis"
    assert attributes["webhook-id"].startswith("msg_")
    assert attributes["traceparent"].split("-")[1] == TRACE["traceparent"].split("-")[1]
    assert bench.receiver.calls == []


def test_lanes_are_served_in_strict_order(bench: Bench) -> None:
    jobs = {lane: [bench.send(lane) for _ in range(3)] for lane in reversed(Lane)}
    order: list[str] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        order.append(task.job_id)
        return {}

    with bench.running(handler, analysis_concurrency=1, **bench.lanes()):
        wait_until(lambda: len(order) == 9)
    expected = [Lane.HIGH] * 3 + [Lane.NORMAL] * 3 + [Lane.LOW] * 3
    assert [next(lane for lane in Lane if job in jobs[lane]) for job in order] == expected


def test_never_more_is_received_than_there_are_slots(bench: Bench) -> None:
    for _ in range(6):
        bench.send()
    handler = Blocking()
    with bench.running(handler, analysis_concurrency=2):
        wait_until(lambda: len(handler.started) == 2)
        assert bench.counts(bench.queues.by_lane[Lane.NORMAL]) == (4, 2)
        handler.go.set()
        wait_until(bench.is_empty)


def test_the_heartbeat_keeps_a_long_task(bench: Bench) -> None:
    job_id = bench.send()
    started: list[int] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        started.append(task.attempt)
        # Longer than the visibility timeout, which would let a second server have it.
        end = time.monotonic() + 1.5 * VISIBILITY
        while time.monotonic() < end:
            task.check()
            time.sleep(0.1)
        return {}

    with bench.running(handler), bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))
        wait_until(bench.is_empty)
    assert started == [1]


@contextmanager
def hanging_server(bench: Bench, marker: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server of its own process, whose handler has begun a task and never ends."""
    settings = {
        **bench.environment,
        "sqs_queue_url": bench.queues.by_lane[Lane.NORMAL],
        "callback_allowed_hosts": bench.receiver.host,
        "analysis_visibility_timeout_seconds": VISIBILITY,
        # With a free slot it would be polling: the server hands a dead poll the message too.
        "analysis_concurrency": 1,
        "shutdown_grace_seconds": 0.2,
    }
    environment = {name.upper(): str(value) for name, value in settings.items()}
    script = Path(__file__).parent / "hanging_server.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(marker)], env={**os.environ, **environment}
    )
    try:
        wait_until(marker.exists)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_server_loses_nothing(bench: Bench, tmp_path: Path) -> None:
    job_id = bench.send()
    with hanging_server(bench, tmp_path / "started") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    attempts: list[int] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        attempts.append(task.attempt)
        return {}

    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))
    assert attempts == [2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully(bench: Bench, tmp_path: Path, number: signal.Signals) -> None:
    bench.send()
    with hanging_server(bench, tmp_path / "started") as process:
        process.send_signal(number)
        assert process.wait(60) == 0
        # Handed back at once, not after the visibility timeout.
        assert bench.counts(bench.queues.by_lane[Lane.NORMAL]) == (1, 0)


def test_a_final_failure_is_reported_and_deleted(bench: Bench) -> None:
    def handler(task: AnalysisTask) -> dict[str, object]:
        raise AnalysisError("audio_unreadable", "The file is no recording")

    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id) and bench.is_empty())
    (report,) = bench.receiver.of(job_id)
    assert report.body["error"] == {
        "code": "audio_unreadable",
        "message": "The file is no recording",
    }
    assert bench.dead_letters() == 0


def test_a_failing_job_is_tried_three_times_then_reported_and_kept(bench: Bench) -> None:
    attempts: list[int] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        attempts.append(task.attempt)
        raise RuntimeError("password=hunter2")

    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: bench.dead_letters() == 1)
    assert attempts == [1, 2, 3]
    (report,) = bench.receiver.of(job_id)
    assert report.body["error"]["code"] == "internal_error"
    assert "RuntimeError" in report.body["error"]["message"]
    assert "hunter2" not in json.dumps(report.body)


def test_a_retry_can_succeed(bench: Bench) -> None:
    def handler(task: AnalysisTask) -> dict[str, object]:
        if task.attempt == 1:
            raise AnalysisError("busy", "Come again", retryable=True)
        return {"attempt": task.attempt}

    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id))
    (report,) = bench.receiver.of(job_id)
    assert report.body["result"] == {"attempt": 2}


def test_attempts_beyond_the_limit_only_report(bench: Bench) -> None:
    calls: list[str] = []
    job_id = bench.send()
    for _ in range(2):
        bench.sqs.receive_message(QueueUrl=bench.queues.by_lane[Lane.NORMAL], VisibilityTimeout=0)
    with bench.running(
        lambda task: calls.append(task.job_id),
        analysis_max_receives=2,
        analysis_retry_max_seconds=600,
    ):
        wait_until(lambda: bench.receiver.of(job_id))
        # Not given back at once, or it would come round for ever where nothing redrives it.
        wait_until(lambda: bench.counts(bench.queues.by_lane[Lane.NORMAL]) == (0, 1))
    assert calls == []
    (report,) = bench.receiver.of(job_id)
    assert report.body["error"]["code"] == "receives_exhausted"


def test_a_second_message_of_a_finished_delivery_is_not_run_again(bench: Bench) -> None:
    """SQS may deliver a message again although it was deleted: here it is made to, by its copy."""
    runs: list[str] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        runs.append(task.job_id)
        return {}

    bench.send()
    with bench.running(handler, analysis_concurrency=1, **bench.lanes()) as server:
        wait_until(bench.is_empty)
        source = server._sqs
        assert source is not None
        # The real server never forgets a deletion, so the id of another message stands in.
        other = bench.sqs.send_message(
            QueueUrl=bench.queues.by_lane[Lane.LOW], MessageBody=bench.request().body(),
            DelaySeconds=3,
        )  # fmt: skip
        source._finished[other["MessageId"]] = None
        wait_until(lambda: bench.delayed(Lane.LOW) == 0 and bench.is_empty(Lane.LOW))
    assert len(runs) == 1


def test_a_redelivery_while_running_is_adopted(bench: Bench) -> None:
    handler = Blocking()
    job_id = bench.send()
    # No heartbeat during the test: this server lets it hide what has become visible.
    with bench.running(handler, analysis_visibility_timeout_seconds=60) as server:
        wait_until(lambda: handler.started)
        (running,) = server._runner.running()
        assert isinstance(running.delivery, SqsDelivery)
        lease = running.delivery.lease
        before = lease.receipt
        # As if SQS had delivered it twice: make it visible behind the worker's back.
        bench.sqs.change_message_visibility(
            QueueUrl=bench.queues.by_lane[Lane.NORMAL], ReceiptHandle=before, VisibilityTimeout=0
        )
        wait_until(lambda: lease.receipt != before)
        handler.go.set()
        wait_until(lambda: bench.receiver.of(job_id, "completed") and bench.is_empty())
    assert len(handler.started) == 1


def test_a_lost_lease_stops_the_task(bench: Bench) -> None:
    handler = Blocking()
    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: handler.started)
        bench.sqs.purge_queue(QueueUrl=bench.queues.by_lane[Lane.NORMAL])
        wait_until(lambda: handler.started[0].stop_reason == "lease_lost")
    assert bench.receiver.of(job_id) == []


def test_the_receiver_may_be_down_for_a_while(bench: Bench) -> None:
    answers = iter([503, 500, 429, 202])
    bench.receiver.answer = lambda _: next(answers)
    job_id = bench.send()
    with bench.running(simple):
        wait_until(lambda: len(bench.receiver.of(job_id)) == 4 and bench.is_empty())
    reports = bench.receiver.of(job_id)
    assert len({report.message_id for report in reports}) == 1
    assert len({json.dumps(report.body) for report in reports}) == 1
    assert bench.dead_letters() == 0


def test_a_report_that_never_arrives_leaves_the_message(bench: Bench) -> None:
    bench.receiver.answer = lambda _: 503
    job_id = bench.send()
    with bench.running(simple, report_retry_seconds=0.5):
        wait_until(lambda: bench.dead_letters() == 1)
    assert {report.status for report in bench.receiver.of(job_id)} == {"completed"}


@pytest.mark.parametrize("status", [400, 401, 302])
def test_a_refused_report_is_not_repeated_but_the_job_is_kept(bench: Bench, status: int) -> None:
    bench.receiver.answer = lambda _: status
    job_id = bench.send()
    with bench.running(simple):
        wait_until(lambda: bench.dead_letters() == 1)
    assert len(bench.receiver.of(job_id)) == 3


@pytest.mark.parametrize("status", [404, 410])
def test_a_job_that_is_gone_is_deleted(bench: Bench, status: int) -> None:
    bench.receiver.answer = lambda _: status
    job_id = bench.send()
    with bench.running(simple):
        wait_until(lambda: bench.receiver.of(job_id) and bench.is_empty())
    assert bench.dead_letters() == 0


def test_a_callback_elsewhere_is_never_called(bench: Bench) -> None:
    runs: list[str] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        runs.append(task.job_id)
        return {}

    bench.send(callback_url=bench.receiver.url.replace("127.0.0.1", "localhost"))
    with bench.running(handler):
        wait_until(lambda: bench.dead_letters() == 1)
    assert runs == []
    assert bench.receiver.calls == []


def test_a_malformed_message_goes_to_the_dead_letters(bench: Bench) -> None:
    url = bench.queues.by_lane[Lane.NORMAL]
    bench.sqs.send_message(QueueUrl=url, MessageBody="this is no JSON")
    partly = {"job_id": "partly", "webhook_url": f"{bench.receiver.url}?job_id=partly"}
    bench.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(partly))
    with bench.running(simple):
        wait_until(lambda: bench.dead_letters() == 2)
    reports = bench.receiver.of("partly", "failed")
    assert len({report.message_id for report in reports}) == 1
    assert reports[0].body["error"]["code"] == "bad_request"


def test_progress_is_sent_and_the_last_word_is_the_result(bench: Bench) -> None:
    def handler(task: AnalysisTask) -> dict[str, object]:
        task.progress(10, "Listening")
        wait_until(lambda: bench.receiver.of(task.job_id, "processing"))
        for percent in range(20, 90):
            task.progress(percent)
        return {}

    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))
    first = bench.receiver.of(job_id, "processing")[0]
    assert (first.body["progress"], first.body["message"]) == (10, "Listening")
    assert len(bench.receiver.of(job_id, "processing")) < 20


def test_progress_does_not_wait_for_a_slow_receiver(bench: Bench) -> None:
    release = threading.Event()

    def answer(report: Report) -> int:
        if report.status == "processing":
            release.wait(60)
        return 202

    bench.receiver.answer = answer
    took: list[float] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        started = time.monotonic()
        for percent in range(100):
            task.progress(percent)
        took.append(time.monotonic() - started)
        return {}

    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))
        release.set()
    assert took[0] < 10, "it was sent a hundred times, and nobody answered once"


def test_a_job_that_is_gone_stops_its_task(bench: Bench) -> None:
    bench.receiver.answer = lambda _: 410

    def handler(task: AnalysisTask) -> dict[str, object]:
        task.progress(1)
        while True:
            task.check()
            time.sleep(0.02)

    job_id = bench.send()
    with bench.running(handler):
        wait_until(bench.is_empty)
    assert bench.receiver.of(job_id, "completed") == []


def test_the_time_limit_ends_a_task_and_it_is_tried_again(bench: Bench) -> None:
    attempts: list[int] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        attempts.append(task.attempt)
        while task.attempt == 1:
            task.check()
            time.sleep(0.02)
        return {}

    job_id = bench.send()
    with bench.running(handler, analysis_time_limit_seconds=0.3):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))
    assert attempts == [1, 2]


def test_a_task_that_ignores_its_limit_is_taken_over(bench: Bench) -> None:
    hung, attempts = threading.Event(), []

    def hanging(task: AnalysisTask) -> dict[str, object]:
        attempts.append(task.attempt)
        hung.wait(60)
        task.check()
        return {}

    def healthy(task: AnalysisTask) -> dict[str, object]:
        attempts.append(task.attempt)
        return {}

    job_id = bench.send()
    with bench.running(hanging, analysis_time_limit_seconds=0.5, analysis_concurrency=1):
        wait_until(lambda: attempts == [1])
        with bench.running(healthy):
            wait_until(lambda: bench.receiver.of(job_id, "completed"))
        hung.set()
    assert attempts == [1, 2]
    assert len(bench.receiver.of(job_id, "completed")) == 1


def test_a_graceful_stop_finishes_what_runs(bench: Bench) -> None:
    handler = Blocking()
    job_id = bench.send()
    server = AnalysisServer(handler, bench.settings())
    server.start()
    wait_until(lambda: handler.started)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    wait_until(server._stopping.is_set)
    later = bench.send()
    handler.go.set()
    stopping.join()
    assert bench.receiver.of(job_id, "completed")
    assert bench.receiver.of(later) == []
    assert bench.counts(bench.queues.by_lane[Lane.NORMAL]) == (1, 0)


def test_a_stop_hands_back_what_does_not_finish(bench: Bench) -> None:
    handler = Blocking()
    job_id = bench.send()
    with bench.running(handler, shutdown_grace_seconds=0.2):
        wait_until(lambda: handler.started)
    # At once, not after the visibility timeout.
    assert bench.counts(bench.queues.by_lane[Lane.NORMAL]) == (1, 0)
    assert bench.receiver.of(job_id) == []
    with bench.running(simple):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))


def test_large_results_are_linked(bench: Bench) -> None:
    class Store:
        kept: dict[str, bytes] = {}

        def put(self, job_id: str, name: str, data: bytes, content_type: str) -> str:
            self.kept[f"{job_id}/{name}"] = data
            return f"s3://results/{job_id}/{name}"

    store = Store()
    job_id = bench.send()
    with bench.running(lambda _: {"text": "x" * 5_000}, report_max_bytes=2_000, store=store):
        wait_until(lambda: bench.receiver.of(job_id))
    result = bench.receiver.of(job_id)[0].body["result"]
    assert result["result_url"] == f"s3://results/{job_id}/report.json"
    assert json.loads(store.kept[f"{job_id}/report.json"])["result"] == {"text": "x" * 5_000}


@pytest.mark.parametrize(
    "result", [{"x": object()}, {"x": float("nan")}, {"x": [float("inf")]}, ["a list"], None]
)
def test_what_is_no_json_object_fails_the_job(bench: Bench, result: object) -> None:
    job_id = bench.send()
    with bench.running(lambda _: result):
        wait_until(lambda: bench.receiver.of(job_id) and bench.is_empty())
    assert bench.receiver.of(job_id)[0].body["error"]["code"] == "bad_result"


def test_jobs_over_http_share_the_slots_and_are_refused_when_full(bench: Bench) -> None:
    handler = Blocking()
    with bench.running(
        handler, sqs_queue_url=None, analysis_concurrency=1, analysis_http_queue_size=1
    ) as server:
        first, second = bench.request(), bench.request()
        server.accept(first)
        wait_until(lambda: handler.started)
        server.accept(second)
        server.accept(second)
        with pytest.raises(UnavailableError) as caught:
            server.accept(bench.request())
        assert caught.value.retry_after == 5
        handler.go.set()
        wait_until(lambda: len(bench.receiver.calls) == 2)
    assert {report.job_id for report in bench.receiver.calls} == {first.job_id, second.job_id}


def test_a_job_over_http_is_retried_in_memory(bench: Bench) -> None:
    def handler(task: AnalysisTask) -> dict[str, object]:
        if task.attempt < 3:
            raise AnalysisError("busy", "Come again", retryable=True)
        return {"attempt": task.attempt}

    with bench.running(handler, sqs_queue_url=None) as server:
        request = bench.request()
        server.accept(request)
        wait_until(lambda: bench.receiver.of(request.job_id))
    assert bench.receiver.of(request.job_id)[0].body["result"] == {"attempt": 3}


def test_a_post_must_be_signed(bench: Bench) -> None:
    with bench.running(simple, sqs_queue_url=None) as server:
        body = bench.request().body().encode()
        signed = webhooks.sign(body, secrets=[SECRET], message_id="msg_1")
        with pytest.raises(UnauthorizedError):
            server.accept_signed(body, {})
        with pytest.raises(UnauthorizedError):
            server.accept_signed(body + b" ", signed)
        with pytest.raises(UnprocessableError):
            server.accept_signed(b"{}", webhooks.sign(b"{}", secrets=[SECRET], message_id="m"))
        request = server.accept_signed(body, signed)
        wait_until(lambda: bench.receiver.of(request.job_id, "completed"))
        elsewhere = bench.request(callback_url="http://169.254.169.254/latest").body().encode()
        with pytest.raises(UnprocessableError):
            server.accept_signed(
                elsewhere, webhooks.sign(elsewhere, secrets=[SECRET], message_id="m")
            )


def test_without_a_secret_no_post_is_taken_unless_told(bench: Bench) -> None:
    body = bench.request().body().encode()
    signed = webhooks.sign(body, secrets=[SECRET], message_id="msg_1")
    with bench.running(simple, sqs_queue_url=None, webhook_secrets=()) as server:
        for headers in ({}, signed):
            with pytest.raises(UnauthorizedError):
                server.accept_signed(body, headers)
    told = {"sqs_queue_url": None, "webhook_secrets": (), "analysis_allow_unsigned": True}
    with bench.running(simple, **told) as server:
        request = server.accept_signed(body, {})
        wait_until(lambda: bench.receiver.of(request.job_id, "completed"))


def test_health(bench: Bench) -> None:
    with bench.running(simple) as server:
        server.check_alive()
        server.check_ready()
    with pytest.raises(RuntimeError):
        server.check_ready()
