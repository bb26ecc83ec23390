"""How a worker hears that a job is not wanted any more, and waits for what it needs."""

import json
import threading
import time
from pathlib import Path

import pytest
from analysis_bench import Bench
from analysis_children import sleep_long
from prometheus_client import REGISTRY

from headrace_analysis import AnalysisError, AnalysisTask, Dependency, ProcessPool
from headrace_analysis.callback import Callback
from headrace_analysis.outcome import ReportOutcome
from headrace_analysis.reporting import OutgoingReport
from headrace_analysis.webhook import WebhookReporter, asks_to_stop
from headrace_common.circuit import CircuitPolicy, CircuitState
from headrace_common.contracts import ReportStatus
from headrace_common.errors import UnavailableError
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack


def test_a_job_that_is_cancelled_while_it_runs_ends_within_a_heartbeat(
    bench: Bench, tmp_path: Path
) -> None:
    """Its process too, although that says nothing; and its message is gone for good."""
    pool, started = ProcessPool(sleep_long), tmp_path / "started"

    def handler(task: AnalysisTask) -> dict[str, object]:
        pool.run(str(started), check=task.check)
        return {}

    job_id = bench.send()
    with bench.running(handler):
        child = wait_until(lambda: started.exists() and started.read_text())
        bench.receiver.unwanted.add(job_id)
        beats = len(bench.receiver.heartbeats)
        wait_until(lambda: not Path(f"/proc/{child}").exists())
        wait_until(bench.is_empty)
    # One may have been on its way already.
    assert len(bench.receiver.heartbeats) - beats <= 2
    assert bench.receiver.of(job_id) == []
    assert bench.dead_letters() == 0
    pool.close()


def test_a_job_that_was_cancelled_while_it_waited_is_not_begun(bench: Bench) -> None:
    begun: list[str] = []

    def handler(task: AnalysisTask) -> dict[str, object]:
        begun.append(task.job_id)
        return {}

    unwanted, wanted = bench.send(), bench.send()
    bench.receiver.unwanted.add(unwanted)
    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(wanted, "completed") and bench.is_empty())
    assert begun == [wanted]
    assert bench.receiver.of(unwanted) == []
    assert bench.dead_letters() == 0


def test_progress_hears_of_it_too(bench: Bench) -> None:
    def handler(task: AnalysisTask) -> dict[str, object]:
        bench.receiver.unwanted.add(task.job_id)
        task.progress(10)
        while True:
            task.check()
            time.sleep(0.02)

    job_id = bench.send()
    with bench.running(handler, analysis_heartbeat_seconds=600):
        wait_until(bench.is_empty)
    assert [report.status for report in bench.receiver.of(job_id)] == ["processing"]


def test_a_task_without_progress_shows_signs_of_life_only(bench: Bench) -> None:
    def handler(task: AnalysisTask) -> dict[str, object]:
        wait_until(lambda: len(bench.receiver.heartbeats) >= 3)
        return {}

    job_id = bench.send()
    with bench.running(handler):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))
    assert len(bench.receiver.of(job_id)) == 1
    assert all(set(r.body) == {"job_id", "status", "heartbeat", "timestamp"}
               for r in bench.receiver.heartbeats)  # fmt: skip
    assert len({report.message_id for report in bench.receiver.heartbeats}) >= 3


@pytest.mark.parametrize("changes", [{"analysis_heartbeat_seconds": 0}, {"answer_via": "queue"}])
def test_without_heartbeats_nobody_asks(bench: Bench, changes: dict[str, object]) -> None:
    bench.receiver.unwanted.add(bench.send())
    with bench.running(lambda _: {}, **changes):
        wait_until(bench.is_empty)
    assert bench.receiver.heartbeats == []


def test_a_receiver_that_does_not_answer_holds_nobody_up(bench: Bench) -> None:
    bench.receiver.heartbeat_status = 500
    job_id = bench.send()
    with bench.running(lambda _: {}):
        wait_until(lambda: bench.receiver.of(job_id, "completed"))


def test_a_receiver_that_asks_for_patience_is_not_tried_before(bench: Bench) -> None:
    """And no further job is received while nobody could be told of its end."""
    bench.receiver.retry_after = "5"
    times: list[float] = []

    def answer(_report: object) -> int:
        times.append(time.monotonic())
        return 503 if len(times) == 1 else 202

    bench.receiver.answer = answer
    first = bench.send()
    with bench.running(lambda _: {}, analysis_concurrency=2) as server:
        wait_until(lambda: times)
        wait_until(lambda: server._reporter.away_seconds > 0)
        second = bench.request()
        with pytest.raises(UnavailableError) as caught:
            server.accept(second)
        assert caught.value.retry_after is not None
        wait_until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 4.9
    assert [r.status for r in bench.receiver.of(first)] == ["completed"] * 2


def test_a_result_on_the_queue_tells_its_run(bench: Bench) -> None:
    url = f"{bench.receiver.url}?job_id=j&run=3"
    bench.send(job_id="j", callback_url=url, webhook_url=url)
    with bench.running(lambda _: {}, answer_via="queue"):
        wait_until(bench.is_empty)
    (message,) = bench.sqs.receive_message(QueueUrl=bench.queues.results, WaitTimeSeconds=2)[
        "Messages"
    ]
    assert json.loads(message["Body"])["job_run"] == 3


def test_the_next_run_is_taken_over_http_while_the_last_one_ends(bench: Bench) -> None:
    seen: list[str] = []
    go = threading.Event()

    def handler(task: AnalysisTask) -> dict[str, object]:
        seen.append(task.request.callback_url)
        go.wait(60)
        return {}

    with bench.running(handler, sqs_queue_url=None) as server:
        first = bench.request()
        url = f"{first.callback_url}&run=2"
        server.accept(first)
        server.accept(first)
        server.accept(first.model_copy(update={"callback_url": url, "webhook_url": url}))
        wait_until(lambda: len(seen) == 2)
        go.set()


@pytest.mark.parametrize(
    ("receipt", "stops"),
    [
        (b'{"stop": true}', True),
        (b'{"stop": "true"}', False),
        (b'{"stop": false}', False),
        (b"[true]", False),
        (b"<html>", False),
        (b"", False),
        (b"[" * 5_000, False),
        (b"\xff", False),
    ],
)
def test_only_a_plain_word_stops(receipt: bytes, *, stops: bool) -> None:
    assert asks_to_stop(receipt) is stops


def test_a_dependency_is_waited_for_and_its_word_believed() -> None:
    dependency = Dependency("s3", CircuitPolicy(failures=2, first_seconds=0.1), retry_seconds=20)
    answers = [
        AnalysisError("media_unavailable", "No", retryable=True, retry_after=0.3),
        AnalysisError("media_unavailable", "No", retryable=True),
        None,
    ]
    calls: list[float] = []

    def once() -> str:
        calls.append(time.monotonic())
        if (error := answers[len(calls) - 1]) is not None:
            raise error
        return "the file"

    assert dependency.call(once, check=lambda: None) == "the file"
    assert calls[1] - calls[0] >= 0.3
    assert dependency.breaker.state is CircuitState.CLOSED


def test_what_is_not_there_is_not_waited_for() -> None:
    dependency = Dependency("s3", CircuitPolicy(failures=1), retry_seconds=20)
    calls: list[int] = []

    def once() -> None:
        calls.append(1)
        raise AnalysisError("media_missing", "There is none")

    with pytest.raises(AnalysisError, match="media_missing"):
        dependency.call(once, check=lambda: None)
    assert (len(calls), dependency.breaker.state) == (1, CircuitState.CLOSED)


def test_a_task_that_is_to_end_does_not_wait_on() -> None:
    dependency = Dependency("s3", CircuitPolicy(failures=1, first_seconds=60), retry_seconds=600)

    def once() -> None:
        raise AnalysisError("media_unavailable", "No", retryable=True)

    def check() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        dependency.call(once, check=check)
    assert dependency.breaker.state is CircuitState.OPEN


def test_a_receiver_that_is_away_is_shown_until_it_is_back() -> None:
    policy = CircuitPolicy(failures=1, first_seconds=30)
    reporter = WebhookReporter(allowed_hosts=["127.0.0.1:1"], secrets=(), timeout=1, policy=policy)
    callback = Callback("job", "http://127.0.0.1:1/webhook")
    report = OutgoingReport(callback, ReportStatus.COMPLETED, "message", b"{}")
    shown = []
    for _ in range(2):
        assert reporter.send(report).outcome is ReportOutcome.UNREACHABLE
        told = {"dependency": f"callback {callback.host}"}
        shown.append(REGISTRY.get_sample_value("headrace_circuit_open", told))
    reporter.close()
    assert shown == [1.0, 1.0]
