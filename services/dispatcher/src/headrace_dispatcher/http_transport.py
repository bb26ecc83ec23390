"""The way over HTTP: each job is one signed POST to ANALYSIS_SERVER_URL."""

import time
from collections.abc import Sequence
from typing import Final

import httpx

from headrace_common import webhooks
from headrace_common.contracts.lanes import Lane
from headrace_common.retry_after import retry_after_seconds
from headrace_dispatcher.transports import Dispatch, Receipt, TransportError, TransportName

#: Answers that say "not now" rather than "not this".
_PASSING_STATUSES: Final = frozenset({408, 425, 429})
#: Our signature is not taken: a secret or a clock is wrong, over there or here, and no job.
_NOT_TRUSTED: Final = frozenset({401, 403})
#: There is nothing to post to: more likely a wrong URL than a job that nobody wants.
_NOT_THERE: Final = frozenset({404, 405, 410})
#: Nothing was sent: the job cannot be what is wrong.
_NOT_REACHED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class HttpTransport:
    """Posts jobs to an analysis server; any 2xx means that it has taken the job."""

    name = TransportName.HTTP
    max_entries = 1

    def __init__(
        self, url: str, *, timeout_seconds: float, secrets: Sequence[str], max_bytes: int
    ) -> None:
        """Make the client; nothing is sent yet.

        Args:
            url: of the analysis server; the only host ever talked to, redirects included.
            timeout_seconds: for connecting, and for each wait for bytes.
            secrets: sign the request (Standard Webhooks), so that the server can trust it.
            max_bytes: most bytes of a request's body.
        """
        self.max_bytes = max_bytes
        self._url = url
        self._secrets = list(secrets)
        # No proxy from the environment: the one host is configured, and ours.
        self._client = httpx.Client(
            timeout=timeout_seconds, follow_redirects=False, trust_env=False
        )

    def destinations(self) -> Sequence[str]:
        """Return the one URL."""
        return [self._url]

    def destination(self, lane: Lane) -> str:
        """Return the one URL."""
        return self._url

    def send(self, destination: str, batch: Sequence[Dispatch]) -> list[Receipt | TransportError]:
        """Post each dispatch."""
        return [self._post(destination, dispatch) for dispatch in batch]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, url: str, dispatch: Dispatch) -> Receipt | TransportError:
        body = dispatch.request.body().encode()
        headers = {
            "content-type": "application/json",
            "x-headrace-priority": dispatch.lane.value,
            **dispatch.trace,
        }
        if self._secrets:
            message_id = f"{dispatch.request.job_id}:{dispatch.request.timestamp.timestamp()}"
            headers |= webhooks.sign(body, secrets=self._secrets, message_id=message_id)
        try:
            # Streamed, so that no answer, however long, is read: the status says it all.
            with self._client.stream("POST", url, content=body, headers=headers) as answer:
                return _outcome(answer)
        except httpx.HTTPError as error:
            return TransportError(
                f"the analysis server does not answer: {type(error).__name__}",
                retryable=True,
                systemic=isinstance(error, _NOT_REACHED),
            )


def _outcome(answer: httpx.Response) -> Receipt | TransportError:
    if answer.is_success:
        return Receipt({"analysis_server_status": answer.status_code})
    untrusted = answer.status_code in _NOT_TRUSTED
    passing = (
        untrusted
        or answer.is_server_error
        or answer.is_redirect
        or answer.status_code in _PASSING_STATUSES | _NOT_THERE
    )
    retry_after = retry_after_seconds(answer.headers.get("retry-after"), now=time.time())
    # Too many requests, or down until a time that it knows: no job's doing. Any other 5xx may be.
    told_to_wait = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and retry_after is not None
    return TransportError(
        f"the analysis server answered {answer.status_code}",
        retryable=passing,
        systemic=untrusted or told_to_wait or answer.status_code == httpx.codes.TOO_MANY_REQUESTS,
        retry_after=retry_after if passing else None,
    )
