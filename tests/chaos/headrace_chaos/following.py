"""Following a job by its event stream, as a browser does: what breaks off is resumed."""

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from headrace_chaos.ledger import Seen

_FINAL: Final = frozenset({"completed", "failed", "cancelled"})
#: The server pings every 15 s.
_TIMEOUT: Final = httpx.Timeout(20, connect=2)
_PAUSE_SECONDS: Final = 0.5
#: Part of the connections that the client itself breaks off after some events.
_BREAKS: Final = 0.4
_MOST_EVENTS_BEFORE_A_BREAK: Final = 4


@dataclass(frozen=True)
class _Event:
    """A whole event; `sequence` is unset for one that cannot be resumed from."""

    sequence: int | None
    kind: str
    status: str


class Follower:
    """Follows one job to its end."""

    def __init__(
        self, job_id: str, urls: Sequence[str], headers: dict[str, str], stop: threading.Event
    ) -> None:
        """Make it.

        Args:
            job_id: which.
            urls: of the replicas of the results service.
            headers: with the key.
            stop: ends it early.
        """
        self._job_id = job_id
        self._urls = urls
        self._headers = headers
        self._stop = stop
        self._chance = random.Random(job_id)  # noqa: S311 - the same job, the same breaks
        self._events: list[tuple[int, str, str]] = []

    def follow(self, *, seconds: float) -> Seen:
        """Return what was seen until the job's end, or for so many seconds."""
        deadline = time.monotonic() + seconds
        ended = False
        with httpx.Client(headers=self._headers, timeout=_TIMEOUT, trust_env=False) as client:
            while not ended and time.monotonic() < deadline and not self._stop.is_set():
                try:
                    ended = self._connect(client, deadline)
                except httpx.TransportError:
                    ended = False
                if not ended:
                    self._stop.wait(_PAUSE_SECONDS)
        return Seen(self._job_id, tuple(self._events), ended=ended)

    def _connect(self, client: httpx.Client, deadline: float) -> bool:
        """Read one connection, and return whether the server said that nothing follows."""
        most = None
        if self._chance.random() < _BREAKS:
            most = self._chance.randint(1, _MOST_EVENTS_BEFORE_A_BREAK)
        last = self._events[-1][0] if self._events else 0
        headers = {"last-event-id": str(last)} if last else {}
        url = f"{self._chance.choice(self._urls)}/jobs/{self._job_id}/events"
        with client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == httpx.codes.NO_CONTENT:
                return True
            if not answer.is_success:
                return False
            count = 0
            for event in _events(answer.iter_lines()):
                if event.sequence is not None:
                    self._events.append((event.sequence, event.kind, event.status))
                    count += 1
                if count == most or time.monotonic() > deadline:
                    return False
        return bool(self._events) and self._events[-1][2] in _FINAL


def _events(lines: Iterator[str]) -> Iterator[_Event]:
    """Read events; one that broke off before its empty line never came."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line and name:
            fields[name] = value.removeprefix(" ")
        elif not line:
            if "data" in fields:
                yield _event(fields)
            fields = {}


def _event(fields: dict[str, str]) -> _Event:
    sequence = int(fields["id"]) if "id" in fields else None
    status = str(json.loads(fields["data"]).get("status", ""))
    return _Event(sequence, fields.get("event", "message"), status)
