"""Jobs over HTTP, the legacy transport: they live in this process's memory only.

A job that was accepted here is lost when the process dies; its sender has to notice that no
answer comes, and send it again. Over SQS the message survives.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from pydantic import ValidationError

from headrace_analysis import metrics
from headrace_analysis.callback import Callback
from headrace_analysis.outcome import Settlement
from headrace_analysis.slots import Slots
from headrace_common import webhooks
from headrace_common.contracts import AnalysisRequest
from headrace_common.errors import UnauthorizedError, UnavailableError, UnprocessableError

log = structlog.get_logger()

#: What a sender is asked to wait when all is full.
_RETRY_AFTER_SECONDS: Final = 5


@dataclass(slots=True)
class HttpDelivery:
    """A job that came by POST."""

    source: "HttpSource"
    request: AnalysisRequest
    trace: Mapping[str, str]
    attempt: int = 1
    transport: str = "http"
    #: The one in this process's memory.
    queue: str = "analysis"
    sent_ms: int | None = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def key(self) -> tuple[str, str]:
        """The same for every POST that asks for the same run of the same job."""
        return self.request.job_id, self.request.callback_url

    @property
    def delivery_id(self) -> str:
        """The same for every POST of the same body."""
        return f"http:{self.request.timestamp.isoformat()}"

    @property
    def callback(self) -> Callback:
        """Whom to tell."""
        return Callback(self.request.job_id, self.request.callback_url)

    def watch(self, on_lost: Callable[[], None], *, seconds: float) -> None:
        """Nothing to keep: nobody else has the job."""

    def settle(self, settlement: Settlement, delay: float) -> None:
        """Finish with the job, or run it again after `delay` seconds."""
        self.source.settle(self, settlement, delay)


def verified_request(
    body: bytes, headers: Mapping[str, str], *, secrets: Sequence[str], allow_unsigned: bool
) -> AnalysisRequest:
    """Read the body of a POST, and check its Standard Webhooks signature.

    Args:
        body: raw bytes.
        headers: with lower-case names.
        secrets: any of them may have signed.
        allow_unsigned: ask for no signature, where there is no secret.

    Raises:
        UnauthorizedError: not signed by one of `secrets`.
        UnprocessableError: not an AnalysisRequest.
    """
    if secrets or not allow_unsigned:
        try:
            webhooks.verify(body, headers, secrets=secrets)
        except webhooks.InvalidSignatureError as error:
            raise UnauthorizedError(f"bad signature: {error}") from None
    try:
        return AnalysisRequest.model_validate_json(body)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors()[:5])
        raise UnprocessableError(f"not an analysis request: {fields or 'body'}") from None


class HttpSource:
    """Takes jobs as long as there is room for them."""

    def __init__(self, slots: Slots, *, queue_size: int, concurrency: int) -> None:
        """Make the source.

        Args:
            slots: run the jobs, beside those from SQS.
            queue_size: jobs that may wait for a slot.
            concurrency: number of slots.
        """
        self._slots = slots
        self._most = queue_size + concurrency
        # By callback URL too: it names the run, and an earlier one that ends is none of the next's.
        self._open: dict[tuple[str, str], HttpDelivery] = {}
        self._lock = threading.Lock()
        self._closed = False

    def accept(self, request: AnalysisRequest, trace: Mapping[str, str]) -> None:
        """Take a job; one that is under way is not taken twice.

        Raises:
            UnavailableError: all is full, or the server stops.
        """
        delivery = HttpDelivery(self, request, trace)
        with self._lock:
            if delivery.key in self._open:
                metrics.DUPLICATES.inc()
                return
            if self._closed or len(self._open) >= self._most:
                metrics.HTTP_REFUSED.inc()
                raise UnavailableError(
                    "every slot is busy and the queue is full", retry_after=_RETRY_AFTER_SECONDS
                )
            self._open[delivery.key] = delivery
        if not self._slots.submit(delivery):
            self._drop(delivery)
            raise UnavailableError("the server is stopping", retry_after=_RETRY_AFTER_SECONDS)

    def close(self) -> None:
        """Take nothing any more."""
        with self._lock:
            self._closed = True

    def settle(self, delivery: HttpDelivery, settlement: Settlement, delay: float) -> None:
        """Forget the job, or run it again after `delay` seconds."""
        if settlement is not Settlement.RETRY:
            if settlement is Settlement.HAND_BACK:
                log.warning("analysis.http_job_dropped", job_id=delivery.request.job_id)
            self._drop(delivery)
            return
        delivery.attempt += 1
        timer = threading.Timer(delay, self._again, (delivery,))
        timer.daemon = True
        timer.start()

    def _again(self, delivery: HttpDelivery) -> None:
        if not self._slots.submit(delivery):
            log.warning("analysis.http_job_dropped", job_id=delivery.request.job_id)
            self._drop(delivery)

    def _drop(self, delivery: HttpDelivery) -> None:
        with self._lock:
            self._open.pop(delivery.key, None)
