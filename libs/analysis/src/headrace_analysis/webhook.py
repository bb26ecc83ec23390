"""Reports as signed webhooks to the request's callback URL."""

import json
import time
from collections.abc import Collection, Sequence
from typing import Final

import httpx
import structlog

from headrace_analysis.callback import Callback, CallbackNotAllowedError, check_callback
from headrace_analysis.outcome import ReportOutcome
from headrace_analysis.reporting import OutgoingReport, ReportAnswer
from headrace_common import webhooks
from headrace_common.circuit import CircuitBreaker, CircuitPolicy, CircuitState
from headrace_common.retry_after import retry_after_seconds

log = structlog.get_logger()

#: Client errors that another try may mend: request time-out, too many requests.
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_GONE: Final = frozenset({404, 410})
#: A receipt has some two hundred bytes; of a longer answer nothing is believed.
_MAX_RECEIPT_BYTES: Final = 8_192


def outcome_of_status(status: int) -> ReportOutcome:
    """Return what an HTTP status says of a report. Redirects are never followed."""
    if 200 <= status < 300:
        return ReportOutcome.DELIVERED
    if status in _GONE:
        return ReportOutcome.GONE
    if status in _TRY_AGAIN or status >= 500:
        return ReportOutcome.UNREACHABLE
    return ReportOutcome.REFUSED


def asks_to_stop(receipt: bytes) -> bool:
    """Return whether an answer says that the work is not wanted; other receivers say nothing."""
    try:
        said = json.loads(receipt)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("stop") is True


class WebhookReporter:
    """Sends reports by POST, signed after Standard Webhooks where there are secrets.

    Each receiver has a circuit breaker, so that one that is away is not asked again and again.
    """

    hears_back = True

    def __init__(
        self,
        *,
        allowed_hosts: Collection[str],
        secrets: Sequence[str],
        timeout: float,
        policy: CircuitPolicy,
    ) -> None:
        """Make the reporter.

        Args:
            allowed_hosts: see `check_callback`.
            secrets: each signs; without any, no header claims a signature, and the token that
                the callback URL carries must do.
            timeout: seconds for each of connecting, sending and the answer.
            policy: of the breakers.
        """
        self._allowed = tuple(allowed_hosts)
        self._secrets = tuple(secrets)
        self._timeout = timeout
        self._policy = policy
        #: By host and port; never more than the allow-list lets through.
        self._breakers: dict[str, CircuitBreaker] = {}
        # No proxy from the environment: the receivers are listed, and ours.
        self._client = httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False)

    @property
    def away_seconds(self) -> float:
        """Seconds until the first receiver may be tried, where every known one is at fault."""
        breakers = list(self._breakers.values())
        if any(breaker.state is CircuitState.CLOSED for breaker in breakers):
            return 0.0
        return min((breaker.seconds_left for breaker in breakers), default=0.0)

    def check(self, callback: Callback) -> None:
        """Raise CallbackNotAllowedError where the allow-list does not have the host."""
        check_callback(callback.url, self._allowed)

    def send(self, report: OutgoingReport) -> ReportAnswer:
        """POST the report once, signed with the time of now, unless its receiver is known away."""
        try:
            self.check(report.callback)
        except CallbackNotAllowedError as error:
            log.error("analysis.callback_refused", reason=error.detail)  # noqa: TRY400
            return ReportAnswer(ReportOutcome.REFUSED)
        breaker = self._breaker(report.callback.host)
        if not breaker.allow():
            return ReportAnswer(ReportOutcome.UNREACHABLE, retry_after=breaker.seconds_left)
        answer = self._post(report)
        if answer.outcome is ReportOutcome.UNREACHABLE:
            breaker.failed("no answer, or one that asks to wait", retry_after=answer.retry_after)
        else:
            breaker.succeeded()
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _breaker(self, host: str) -> CircuitBreaker:
        if (known := self._breakers.get(host)) is not None:
            return known
        # Of two threads that make one at the same time, both go on with the one that is kept.
        made = CircuitBreaker(f"callback {host}", self._policy)
        return self._breakers.setdefault(host, made)

    def _post(self, report: OutgoingReport) -> ReportAnswer:
        headers = {"content-type": "application/json", **report.trace}
        if self._secrets:
            headers |= webhooks.sign(
                report.body, secrets=self._secrets, message_id=report.message_id
            )
        try:
            with self._client.stream(
                "POST", report.callback.url, content=report.body, headers=headers
            ) as response:
                return self._read(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            log.error("analysis.callback_refused", reason=type(error).__name__)  # noqa: TRY400
            return ReportAnswer(ReportOutcome.REFUSED)
        except httpx.HTTPError as error:
            log.warning("analysis.callback_unreachable", reason=type(error).__name__)
            return ReportAnswer(ReportOutcome.UNREACHABLE)

    def _read(self, response: httpx.Response) -> ReportAnswer:
        outcome = outcome_of_status(response.status_code)
        if outcome is not ReportOutcome.DELIVERED:
            wait = retry_after_seconds(response.headers.get("retry-after"), now=time.time())
            return ReportAnswer(outcome, retry_after=wait)
        return ReportAnswer(outcome, stop=asks_to_stop(self._receipt(response)))

    def _receipt(self, response: httpx.Response) -> bytes:
        """Read the answer of a report that was taken, as far as it is short and comes soon."""
        deadline = time.monotonic() + self._timeout
        receipt = b""
        try:
            for piece in response.iter_bytes():
                receipt += piece
                if len(receipt) > _MAX_RECEIPT_BYTES or time.monotonic() > deadline:
                    return b""
        except httpx.HTTPError as error:
            log.warning("analysis.receipt_cut", reason=type(error).__name__)
            return b""
        return receipt
