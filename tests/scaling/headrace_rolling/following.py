"""Following a job by its event stream: what the server ends is resumed by Last-Event-ID."""

import threading
from collections.abc import Mapping
from typing import Final

import httpx
from headrace_chaos.ledger import Seen
from httpx_sse import EventSource, connect_sse

from headrace_common.contracts import EventType, JobStatus
from headrace_rolling.tally import Tally, is_failure

#: The server pings every 15 s.
_TIMEOUT: Final = httpx.Timeout(60)
_KIND: Final = "event stream"
_MILLISECONDS: Final = 1_000.0


class Follower:
    """Follows one job to its end. For one thread."""

    def __init__(
        self,
        job_id: str,
        url: str,
        headers: Mapping[str, str],
        tally: Tally,
        stop: threading.Event,
    ) -> None:
        """Make it.

        Args:
            job_id: which.
            url: of the results service.
            headers: with the key.
            tally: counts connections, and those that were refused or broke off.
            stop: ends it early.
        """
        self._job_id = job_id
        self._url = f"{url}/jobs/{job_id}/events"
        self._headers = dict(headers)
        self._tally = tally
        self._stop = stop
        self._events: list[tuple[int, str, str]] = []
        self._retry_seconds = 0.0
        self.connections = 0

    def follow(self) -> Seen:
        """Return what was seen until the job's end."""
        ended = False
        with httpx.Client(headers=self._headers, timeout=_TIMEOUT, trust_env=False) as client:
            while not ended and not self._stop.is_set():
                ended = self._connect(client)
                if not ended:
                    self._stop.wait(self._retry_seconds)
        return Seen(self._job_id, tuple(self._events), ended=ended)

    def _connect(self, client: httpx.Client) -> bool:
        """Read one connection, and return whether nothing follows."""
        self.connections += 1
        self._tally.sent(_KIND)
        last = self._events[-1][0] if self._events else 0
        headers = {"last-event-id": str(last)} if last else {}
        try:
            with connect_sse(client, "GET", self._url, headers=headers) as source:
                status = source.response.status_code
                if status == httpx.codes.NO_CONTENT:
                    return True
                if is_failure(status):
                    self._tally.failed(_KIND, str(status))
                    return False
                return self._read(source)
        except httpx.TransportError as error:
            self._tally.failed(_KIND, type(error).__name__)
            return False

    def _read(self, source: EventSource) -> bool:
        status = ""
        for event in source.iter_sse():
            if event.retry is not None:
                self._retry_seconds = event.retry / _MILLISECONDS
            # A place in the lane has no id: what the parser gives it is the one before.
            if event.data and event.event != EventType.QUEUE_POSITION:
                status = str(event.json()["status"])
                self._events.append((int(event.id), event.event, status))
        return bool(status) and JobStatus(status).is_final
