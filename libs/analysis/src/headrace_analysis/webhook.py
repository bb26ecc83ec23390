"""Reports as signed webhooks to the request's callback URL."""

from collections.abc import Collection, Sequence
from typing import Final

import httpx
import structlog

from headrace_analysis.callback import Callback, CallbackNotAllowedError, check_callback
from headrace_analysis.outcome import ReportOutcome
from headrace_analysis.reporting import OutgoingReport
from headrace_common import webhooks

log = structlog.get_logger()

#: Client errors that another try may mend: request time-out, too many requests.
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_GONE: Final = frozenset({404, 410})


def outcome_of_status(status: int) -> ReportOutcome:
    """Return what an HTTP status says of a report. Redirects are never followed."""
    if 200 <= status < 300:
        return ReportOutcome.DELIVERED
    if status in _GONE:
        return ReportOutcome.GONE
    if status in _TRY_AGAIN or status >= 500:
        return ReportOutcome.UNREACHABLE
    return ReportOutcome.REFUSED


class WebhookReporter:
    """Sends reports by POST, signed after Standard Webhooks where there are secrets."""

    def __init__(
        self, *, allowed_hosts: Collection[str], secrets: Sequence[str], timeout: float
    ) -> None:
        """Make the reporter.

        Args:
            allowed_hosts: see `check_callback`.
            secrets: each signs; without any, no header claims a signature, and the token that
                the callback URL carries must do.
            timeout: seconds for each of connecting, sending and the answer.
        """
        self._allowed = tuple(allowed_hosts)
        self._secrets = tuple(secrets)
        # No proxy from the environment: the receivers are listed, and ours.
        self._client = httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False)

    def check(self, callback: Callback) -> None:
        """Raise CallbackNotAllowedError where the allow-list does not have the host."""
        check_callback(callback.url, self._allowed)

    def send(self, report: OutgoingReport) -> ReportOutcome:
        """POST the report once, signed with the time of now."""
        headers = {"content-type": "application/json", **report.trace}
        if self._secrets:
            headers |= webhooks.sign(
                report.body, secrets=self._secrets, message_id=report.message_id
            )
        try:
            self.check(report.callback)
            # Streamed, so that no answer, however long, is read.
            with self._client.stream(
                "POST", report.callback.url, content=report.body, headers=headers
            ) as response:
                return outcome_of_status(response.status_code)
        except (CallbackNotAllowedError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            log.error("analysis.callback_refused", reason=type(error).__name__)  # noqa: TRY400
            return ReportOutcome.REFUSED
        except httpx.HTTPError as error:
            log.warning("analysis.callback_unreachable", reason=type(error).__name__)
            return ReportOutcome.UNREACHABLE

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
