"""What the worker's tests need: queues on the real server, a real receiver of webhooks, waiting."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mypy_boto3_sqs import SQSClient

from headrace_analysis import AnalysisServer, AnalysisSettings
from headrace_common import webhooks
from headrace_common.contracts import AnalysisRequest, Lane
from headrace_common.sqs import QueueUrls

SECRET = webhooks.secret_from_bytes(b"a secret of 32 bytes for testing")
#: Seconds. A machine that is busy may leave a worker without its turn for two or three.
VISIBILITY = 5


@dataclass(frozen=True)
class Report:
    job_id: str
    message_id: str | None
    status: str
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass
class Receiver:
    """A web server that takes webhooks; `answer` decides on each.

    Signs of life are kept apart, and answered as the results service does: `unwanted` holds the
    jobs that nobody wants any more.
    """

    answer: Callable[[Report], int] = lambda _: 202
    unwanted: set[str] = field(default_factory=set)
    heartbeats: list[Report] = field(default_factory=list)
    heartbeat_status: int = 202
    retry_after: str | None = None
    calls: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                if webhooks.is_signed(headers):
                    webhooks.verify(raw, headers, secrets=[SECRET])
                body = json.loads(raw)
                report = Report(
                    body["job_id"], headers.get("webhook-id"), body["status"], body, headers
                )
                if body.get("heartbeat"):
                    receiver.heartbeats.append(report)
                    status = receiver.heartbeat_status
                else:
                    receiver.calls.append(report)
                    status = receiver.answer(report)
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                if status == 503 and receiver.retry_after:
                    self.send_header("retry-after", receiver.retry_after)
                receipt = json.dumps({"stop": report.job_id in receiver.unwanted}).encode()
                self.send_header("content-length", str(len(receipt)))
                self.end_headers()
                self.wfile.write(receipt)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/webhook"

    def of(self, job_id: str, status: str | None = None) -> list[Report]:
        wanted = [r for r in self.calls if r.job_id == job_id]
        return [r for r in wanted if status is None or r.status == status]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Bench:
    """Queues, a receiver, and the jobs that go through them."""

    sqs: SQSClient
    queues: QueueUrls
    receiver: Receiver
    environment: dict[str, Any]

    def request(self, **changes: Any) -> AnalysisRequest:
        job_id = changes.pop("job_id", str(uuid.uuid4()))
        url = f"{self.receiver.url}?job_id={job_id}"
        fields = {
            "job_id": job_id, "s3_audio_url": "s3://headrace-media/x.wav", "token_id": "t",
            "video_id": "t", "s3_textgrid_url": None, "s3_pitch_url": None, "callback_url": url,
            "webhook_url": url, "timestamp": datetime.now(UTC),
        }  # fmt: skip
        return AnalysisRequest(**(fields | changes))

    def send(self, lane: Lane = Lane.NORMAL, **changes: Any) -> str:
        trace = changes.pop("trace", {})
        request = self.request(**changes)
        self.sqs.send_message(
            QueueUrl=self.queues.by_lane[lane],
            MessageBody=request.body(),
            MessageAttributes=AnalysisRequest.attributes(lane, trace),  # type: ignore[arg-type]
        )
        return request.job_id

    def settings(self, **changes: Any) -> AnalysisSettings:
        values = {
            **self.environment,
            "sqs_queue_url": self.queues.by_lane[Lane.NORMAL],
            "sqs_result_queue_url": self.queues.results,
            "callback_allowed_hosts": (self.receiver.host,),
            "webhook_secrets": (SECRET,),
            "analysis_visibility_timeout_seconds": VISIBILITY,
            "analysis_wait_seconds": 1,
            "analysis_retry_base_seconds": 0.2,
            "analysis_retry_max_seconds": 1,
            "progress_interval_seconds": 0.05,
            "report_retry_seconds": 10,
            "analysis_heartbeat_seconds": 0.3,
            "shutdown_grace_seconds": 5,
        }
        return AnalysisSettings(**(values | changes))

    def lanes(self) -> dict[str, str]:
        """Return the settings of a worker that polls every lane, not the normal one only."""
        return {
            "sqs_queue_url_high": self.queues.by_lane[Lane.HIGH],
            "sqs_queue_url_low": self.queues.by_lane[Lane.LOW],
        }

    @contextmanager
    def running(self, handler: Any, **changes: Any) -> Iterator[AnalysisServer]:
        store = changes.pop("store", None)
        server = AnalysisServer(handler, self.settings(**changes), store=store)
        server.start()
        try:
            yield server
        finally:
            server.stop()

    def counts(self, url: str) -> tuple[int, int]:
        """Return how many messages wait and how many are in flight."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
        return (
            int(answer["ApproximateNumberOfMessages"]),
            int(answer["ApproximateNumberOfMessagesNotVisible"]),
        )

    def delayed(self, lane: Lane) -> int:
        """Return how many messages are not to be seen yet."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.queues.by_lane[lane],
            AttributeNames=["ApproximateNumberOfMessagesDelayed"],
        )["Attributes"]
        return int(answer["ApproximateNumberOfMessagesDelayed"])

    def dead_letters(self, lane: Lane = Lane.NORMAL) -> int:
        return sum(self.counts(self.queues.by_lane[lane] + "-dlq"))

    def is_empty(self, lane: Lane = Lane.NORMAL) -> bool:
        return self.counts(self.queues.by_lane[lane]) == (0, 0)
