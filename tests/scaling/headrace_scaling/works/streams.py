"""Results: the event streams of clients that follow their jobs to the end."""

import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final

import httpx

from headrace_common.contracts.jobs import JobStatus
from headrace_common.jobs import Change
from headrace_local.services import RESULTS
from headrace_scaling.doings import Doing
from headrace_scaling.scene import Scene
from headrace_scaling.work import Work

#: What SSE_MAX_CLIENTS is set to for the run: open streams of one replica.
STREAMS: Final = 8
#: A job ends so long after its client begins to follow it.
_JOB_SECONDS: Final = 1.5
_CLIENTS_EACH: Final = 10
_TIMEOUT_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 120.0
_PATH: Final = re.compile("/jobs/([^/]+)/events")
#: Before a client that was refused, or cut off, comes again.
_PAUSE_SECONDS: Final = 0.3


class EventStreams(Work):
    """Streams from the first event of a job to its last; a piece is a job."""

    deployment: ClassVar[str] = "results"
    service: ClassVar[str] = RESULTS
    what: ClassVar[str] = f"event streams, {STREAMS} at a time a replica"
    each: ClassVar[int] = 24
    cores: ClassVar[float | None] = None
    settled_by: ClassVar[str] = ""

    def __init__(self, scene: Scene) -> None:
        """Make it for a scene."""
        super().__init__(scene)
        self._ids: dict[str, list[int]] = {}
        self._connections: Counter[str] = Counter()

    def feed(self, count: int) -> Sequence[str]:
        """Follow so many jobs, with more clients at a time than there is room for."""
        items = self.scene.make_jobs(count)
        clients = _CLIENTS_EACH * max(1, len(self.scene.fleet.running(RESULTS)))
        with ThreadPoolExecutor(clients, "client") as pool:
            list(pool.map(self._follow, items))
        return items

    def unfinished(self, items: Sequence[str]) -> int:
        """Count the jobs whose client does not have every event, once and in order."""
        return sum(self._ids[item] != list(range(1, self._ids[item][-1] + 1)) for item in items)

    def doings(self) -> Sequence[Doing]:
        """Return who served which to the end; one that was cut off is no piece of work."""

        def item(fields: Any) -> str | None:
            found = _PATH.fullmatch(fields["path"])
            return found[1] if found and fields["status"] == 200 else None

        ends: dict[str, Doing] = {}
        for doing in self.logbook.doings(self.replicas, "http.request", item):
            if doing.item not in ends or ends[doing.item].at < doing.at:
                ends[doing.item] = doing
        return list(ends.values())

    def effects(self, items: Sequence[str]) -> int:
        """Count how often clients were told the last event of their job."""
        return sum(self._ids[item].count(max(self._ids[item])) for item in items)

    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return the streams that were resumed."""
        return [item for item in items if self._connections[item] > 1]

    def _follow(self, job_id: str) -> None:
        """Follow a job to its end, however often that takes."""
        url = f"{self.scene.fleet.service(RESULTS)}/jobs/{job_id}/events"
        until, ids = time.monotonic() + _PATIENCE_SECONDS, self._ids.setdefault(job_id, [])
        with httpx.Client(
            headers=self.scene.headers, timeout=_TIMEOUT_SECONDS, trust_env=False
        ) as http:
            while time.monotonic() < until:
                since = {"last-event-id": str(ids[-1])} if ids else {}
                try:
                    with http.stream("GET", url, headers=since) as answer:
                        if answer.status_code == 204:
                            return
                        if answer.status_code == 200 and self._read(job_id, answer, ids):
                            return
                except httpx.TransportError:
                    pass  # cut off; it comes again, as an EventSource does
                time.sleep(_PAUSE_SECONDS)
        raise TimeoutError(f"the stream of {job_id} did not come to its end")

    def _read(self, job_id: str, answer: httpx.Response, ids: list[int]) -> bool:
        """Read a stream; whether it came to the end of the job."""
        self._connections[job_id] += 1
        if self._connections[job_id] == 1:
            ending = threading.Timer(_JOB_SECONDS, self._end, [job_id])
            ending.daemon = True
            ending.start()
        event = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                ids.append(int(value))
            elif name == "data":
                event = value
        return f'"status":"{JobStatus.COMPLETED}"' in event

    def _end(self, job_id: str) -> None:
        self.scene.store.apply([Change(job_id=job_id, to=JobStatus.COMPLETED, message="")])
