"""What a stop makes of jobs that came over HTTP: nobody else has them."""

import threading

import pytest
from analysis_bench import Bench

from headrace_analysis import AnalysisServer, AnalysisTask
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack


class Held:
    """An analysis that waits until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, task: AnalysisTask) -> dict[str, object]:
        self.begun.set()
        while not self.go.wait(0.05):
            task.check()
        return {}


def test_a_job_over_http_that_waits_is_done_before_the_stop(bench: Bench) -> None:
    handler = Held()
    settings = bench.settings(sqs_queue_url=None, analysis_concurrency=1, shutdown_grace_seconds=60)
    server = AnalysisServer(handler, settings)
    server.start()
    first, second = bench.request(), bench.request()
    server.accept(first)
    assert handler.begun.wait(60)
    server.accept(second)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    wait_until(server._stopping.is_set)
    handler.go.set()
    stopping.join()
    for request in (first, second):
        assert bench.receiver.of(request.job_id, "completed")


def test_one_that_the_grace_is_too_short_for_holds_up_nothing(bench: Bench) -> None:
    handler = Held()
    settings = bench.settings(
        sqs_queue_url=None, analysis_concurrency=1, shutdown_grace_seconds=0.2
    )
    server = AnalysisServer(handler, settings)
    server.start()
    first, second = bench.request(), bench.request()
    server.accept(first)
    assert handler.begun.wait(60)
    server.accept(second)
    server.stop()
    assert server._slots.waiting == 0
    assert bench.receiver.of(second.job_id, "completed") == []
