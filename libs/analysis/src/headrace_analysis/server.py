"""The analysis server: receives, runs, answers, and stops without losing work."""

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import boto3
import structlog
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import start_http_server

from headrace_analysis.callback import Callback
from headrace_analysis.deliveries import Delivery
from headrace_analysis.http_source import HttpDelivery, HttpSource, verified_request
from headrace_analysis.lease import LeaseKeeper
from headrace_analysis.outcome import Settlement, StopReason
from headrace_analysis.progress import ProgressSender
from headrace_analysis.reporting import Reporter
from headrace_analysis.result_queue import ResultQueueReporter
from headrace_analysis.result_store import ResultStore
from headrace_analysis.runner import TaskRunner
from headrace_analysis.settings import AnalysisSettings
from headrace_analysis.slots import Slots
from headrace_analysis.sqs_source import LaneQueue, SqsSource
from headrace_analysis.task import SpeechHandler
from headrace_analysis.webhook import WebhookReporter
from headrace_common.aws import client_arguments
from headrace_common.aws_calls import measure
from headrace_common.circuit import CircuitBreaker
from headrace_common.contracts import AnalysisRequest
from headrace_common.errors import UnavailableError
from headrace_common.sqs import lane_queue_urls, sqs_client
from headrace_common.telemetry import current_trace

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = structlog.get_logger()

#: How long the receiver waits for a free slot before it looks whether to stop.
_LOOK_SECONDS: Final = 0.5
#: Wait after SQS could not be reached: doubles from the first to the last.
_FIRST_FAULT_WAIT_SECONDS: Final = 1.0
_LONGEST_FAULT_WAIT_SECONDS: Final = 30.0
#: What a task that was told to stop gets to do so.
_STOP_SECONDS: Final = 5.0
#: A task this far beyond its limit will not end by itself: the process should be restarted.
_STUCK_SECONDS: Final = 120.0


class AnalysisServer:
    """Takes jobs from SQS, and over HTTP where asked to, and runs a handler on them.

    `run()` is all that a plain worker needs. A server with an HTTP side of its own calls
    `start()` and `stop()` from its life cycle and `accept()` from its endpoint.
    """

    def __init__(
        self,
        handler: SpeechHandler,
        settings: AnalysisSettings,
        *,
        store: ResultStore | None = None,
        waits_for: Sequence[CircuitBreaker] = (),
    ) -> None:
        """Make the server; nothing runs yet.

        Args:
            handler: the analysis; called on ANALYSIS_CONCURRENCY threads.
            settings: from the environment (`AnalysisSettings.load()`).
            store: takes results above REPORT_MAX_BYTES; without one they fail the job.
            waits_for: of what the handler needs: while one is open no job is taken.
        """
        self._settings = settings
        self._waits_for = tuple(waits_for)
        self._control = _control_client(settings)
        self._reporter = _reporter(settings, self._control)
        self._progress = ProgressSender(
            self._reporter,
            interval_seconds=settings.progress_interval_seconds,
            heartbeat_seconds=settings.analysis_heartbeat_seconds,
        )
        self._runner = TaskRunner(
            handler, settings, reporter=self._reporter, progress=self._progress, store=store
        )
        self._slots = Slots(settings.analysis_concurrency, self._runner.run)
        self._http = HttpSource(
            self._slots,
            queue_size=settings.analysis_http_queue_size,
            concurrency=settings.analysis_concurrency,
        )
        self._keeper = LeaseKeeper(
            self._control, visibility_seconds=settings.analysis_visibility_timeout_seconds
        )
        self._sqs = _sqs_source(settings, self._keeper)
        self._stopping = threading.Event()
        self._receiver = threading.Thread(target=self._receive, name="sqs-receiver", daemon=True)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then stop gracefully. Call it on the main thread."""
        asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: asked.set())
        if self._settings.analysis_metrics_port is not None:
            start_http_server(self._settings.analysis_metrics_port)
        self.start()
        asked.wait()
        self.stop()

    def start(self) -> None:
        """Start the threads; returns at once."""
        log.info("analysis.starting", concurrency=self._settings.analysis_concurrency)
        self._slots.start()
        self._progress.start()
        if self._sqs is not None:
            self._keeper.start()
            self._receiver.start()

    def stop(self) -> None:
        """Receive no more, finish what runs within SHUTDOWN_GRACE_SECONDS, hand back the rest.

        What came over HTTP and waits is finished too: nobody else has it.

        Being handed back counts as a receive with SQS: at its last permitted one a job that is
        interrupted is reported as failed and goes to the dead letters.
        """
        deadline = time.monotonic() + self._settings.shutdown_grace_seconds
        self._stopping.set()
        self._http.close()
        self._hand_back(self._slots.close(keep=lambda each: isinstance(each, HttpDelivery)))
        if not self._slots.wait_idle(deadline - time.monotonic()):
            self._hand_back(self._slots.close())
            self._interrupt()
        if self._sqs is not None:
            # A poll under way may bring messages, which the receiver hands back.
            self._receiver.join(max(_STOP_SECONDS, deadline - time.monotonic()))
            self._keeper.stop()
        self._progress.stop()
        self._reporter.close()
        log.info("analysis.stopped")

    @staticmethod
    def _hand_back(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            delivery.settle(Settlement.HAND_BACK, 0)

    def _interrupt(self) -> None:
        self._runner.give_up.set()
        for running in self._runner.running():
            running.task.stop(StopReason.SHUTDOWN)
        if self._slots.wait_idle(_STOP_SECONDS):
            return
        for running in self._runner.running():
            log.warning("analysis.task_abandoned", job_id=running.task.job_id)
            running.delivery.settle(Settlement.HAND_BACK, 0)

    def accept(self, request: AnalysisRequest, trace: Mapping[str, str] | None = None) -> None:
        """Take a job that came over HTTP; it lives in this process's memory only.

        Args:
            request: the job.
            trace: W3C trace-context fields; the current trace where None.

        Raises:
            CallbackNotAllowedError: its answer could not be sent.
            UnavailableError: no room, or what the work needs is away; `retry_after` says when
                to try again.
        """
        if self._stopping.is_set():
            raise UnavailableError("the server is stopping")
        if (seconds := self._away_seconds()) > 0:
            raise UnavailableError("what the work needs is at fault", retry_after=seconds)
        self._reporter.check(Callback(request.job_id, request.callback_url))
        self._http.accept(request, current_trace() if trace is None else trace)

    def accept_signed(self, body: bytes, headers: Mapping[str, str]) -> AnalysisRequest:
        """Take a job as it came: raw body, headers with lower-case names.

        The body must be signed after Standard Webhooks by one of WEBHOOK_SECRETS. Only where
        there is none and ANALYSIS_ALLOW_UNSIGNED says so is it taken without.

        Raises:
            UnauthorizedError: not signed by one of the secrets.
            UnprocessableError: not an AnalysisRequest, or a callback that is not allowed.
            UnavailableError: no room.
        """
        request = verified_request(
            body,
            headers,
            secrets=self._settings.webhook_secret_texts(),
            allow_unsigned=self._settings.analysis_allow_unsigned,
        )
        self.accept(request)
        return request

    def check_alive(self) -> None:
        """Raise RuntimeError where only a restart helps: a thread died, or a task hangs."""
        if self._sqs is not None and not self._stopping.is_set():
            if not self._receiver.is_alive():
                raise RuntimeError("the receiver has died")
            if not self._keeper.is_alive:
                raise RuntimeError("the heartbeat has died")
        for running in self._runner.running():
            if running.task.remaining_seconds < -_STUCK_SECONDS:
                raise RuntimeError("a task does not end, long after its time limit")

    def check_ready(self) -> None:
        """Raise unless the queue answers (where there is one) and the server is not stopping."""
        if self._stopping.is_set():
            raise RuntimeError("the server is stopping")
        if self._sqs is not None:
            self._sqs.check()

    def _receive(self) -> None:
        """Receive whenever a slot is free, never more than are free, until the stop."""
        wait = _FIRST_FAULT_WAIT_SECONDS
        while not self._stopping.is_set():
            free = self._slots.wait_free(_LOOK_SECONDS)
            if not free:
                continue
            if self._away_seconds() > 0:
                # A job received now would only burn one of its receives.
                self._stopping.wait(_LOOK_SECONDS)
                continue
            try:
                self._receive_once(free)
            except (BotoCoreError, ClientError) as error:
                log.warning("analysis.receive_failed", reason=str(error)[:300])
                self._stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_FAULT_WAIT_SECONDS)
            except Exception:
                # Without a receiver the process is useless: note it and go on.
                log.exception("analysis.receiver_failed")
                self._stopping.wait(wait)
            else:
                wait = _FIRST_FAULT_WAIT_SECONDS

    def _away_seconds(self) -> float:
        """Return for how long no job could come to its end; 0 once one may try."""
        needed = (breaker.seconds_left for breaker in self._waits_for)
        return max(self._reporter.away_seconds, *needed, 0.0)

    def _receive_once(self, free: int) -> None:
        if self._sqs is None:
            return
        for delivery in self._sqs.receive(free):
            if not self._slots.submit(delivery):
                delivery.settle(Settlement.HAND_BACK, 0)


def _control_client(settings: AnalysisSettings) -> "SQSClient":
    """Make a client that never hangs as long as a heartbeat may be late."""
    third = settings.analysis_visibility_timeout_seconds / 3
    timeout = max(1.0, min(10.0, third / 3))
    client = boto3.client(
        "sqs",
        endpoint_url=settings.sqs_endpoint_url,
        **client_arguments(settings, connect_timeout=timeout, read_timeout=timeout),
    )
    measure(client)
    return client


def _reporter(settings: AnalysisSettings, client: "SQSClient") -> Reporter:
    if settings.answer_via == "queue" and settings.sqs_result_queue_url is not None:
        return ResultQueueReporter(client, settings.sqs_result_queue_url)
    return WebhookReporter(
        allowed_hosts=settings.callback_allowed_hosts,
        secrets=settings.webhook_secret_texts(),
        timeout=settings.report_timeout_seconds,
        policy=settings.circuit_policy,
    )


def _sqs_source(settings: AnalysisSettings, keeper: LeaseKeeper) -> SqsSource | None:
    if settings.sqs_queue_url is None:
        return None
    queues: dict[str, LaneQueue] = {}
    shared = settings.sqs_queue_url
    for lane, url in lane_queue_urls(settings).items():
        queues.setdefault(url, LaneQueue("any" if url == shared else lane.value, url))
    # Lanes that share a queue must not lift it above a lane that has its own.
    order = [settings.sqs_queue_url_high, shared, settings.sqs_queue_url_low]
    return SqsSource(
        sqs_client(settings),
        keeper,
        [queues[url] for url in dict.fromkeys(url for url in order if url is not None)],
        visibility_seconds=settings.analysis_visibility_timeout_seconds,
        wait_seconds=settings.analysis_wait_seconds,
        lane_wait_seconds=settings.analysis_lane_wait_seconds,
    )
