"""Making work: uploads at a pace, camera jobs, schedules, reports, open event streams."""

import asyncio
import io
import json
import time
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import httpx

from headrace_capacity.measurement import Service
from headrace_capacity.measuring.analysis import token_name
from headrace_capacity.measuring.stand import Stand
from headrace_common import webhooks
from headrace_common.contracts.lanes import Lane
from headrace_local.waiting import wait_until

_THREADS: Final = 8
#: Ten times what any phase takes on a quiet machine.
_DEADLINE_SECONDS: Final = 300.0
#: Longer than any run.
_PATIENCE: Final = httpx.Timeout(120)
#: What an event stream brings within so long after it was opened had happened before.
_HISTORY_SECONDS: Final = 1.0
_NOT_COMPLETED: Final = (
    "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND status <> 'completed'"
)
_OPEN: Final = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"


@dataclass(frozen=True)
class Watched:
    """What came of watching.

    Attributes:
        streams: that were opened.
        seconds: that they were open, in all.
        events: that came live, in all.
    """

    streams: int
    seconds: float
    events: int


class Driver:
    """Makes work on a stand."""

    def __init__(self, stand: Stand) -> None:
        """Work on `stand`."""
        self._stand = stand
        self._tokens: set[str] = set()

    def token(self, reports: int, seconds: float) -> str:
        """Return the token whose jobs report so often within so long, made once."""
        name = token_name(reports, seconds)
        if name not in self._tokens:
            self._stand.call(Service.INGEST, "POST", "/tokens", json={"id": name})
            self._tokens.add(name)
        return name

    def upload(
        self,
        count: int,
        *,
        mib: float,
        reports: int = 0,
        seconds: float = 0,
        rate: float | None = None,
        lane: Lane = Lane.NORMAL,
        threads: int = _THREADS,
    ) -> list[str]:
        """Upload recordings, at so many a second or as fast as it goes; return the jobs' ids."""
        token = self.token(reports, seconds)
        body = recording(round(mib * 2**20))
        urls = self._stand.urls(Service.INGEST)
        began = time.monotonic()

        def one(number: int) -> str:
            if rate:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            answer = self._stand.http.post(
                f"{urls[number % len(urls)]}/tokens/{token}/upload-audio",
                params={"priority": lane.value},
                files={"file": ("speech.wav", body)},
                timeout=_PATIENCE,
            )
            answer.raise_for_status()
            return str(answer.json()["job_id"])

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, range(count)))

    def finish(self) -> None:
        """Wait until all jobs have ended.

        Raises:
            RuntimeError: one has not completed, so that its cost means nothing.
        """
        wait_until(
            lambda: self._stand.meters.one(_OPEN)[0],
            lambda count: count == 0,
            seconds=_DEADLINE_SECONDS,
        )
        if failed := self._stand.meters.one(_NOT_COMPLETED)[0]:
            raise RuntimeError(f"{failed} jobs did not complete")

    def pause(self, *, names: Sequence[str], on: bool) -> None:
        """Stop lanes, or let them go on, and wait until all know."""
        for name in names:
            path = f"/queues/{name}/{'pause' if on else 'resume'}"
            self._stand.call(Service.DISPATCHER, "POST", path)
        time.sleep(2)

    def roll_out(self, sqs_percent: float) -> None:
        """Send so much over SQS; every dispatcher knows afterwards."""
        change = {"sqs_percent": sqs_percent, "auto_rollback": False, "reason": "measured"}
        self._stand.call(Service.DISPATCHER, "PUT", "/rollout", json=change)
        for url in self._stand.urls(Service.DISPATCHER):
            self._stand.http.get(f"{url}/rollout").raise_for_status()

    def heartbeats(self, jobs: Sequence[str]) -> None:
        """Have an analysis server show a sign of life of each job."""
        env = self._stand.state.env
        secret = env["WEBHOOK_SECRETS"].split()[0]
        body = json.dumps({"status": "processing", "heartbeat": True}).encode()

        def one(job_id: str) -> None:
            headers = webhooks.sign(body, secrets=[secret], message_id=f"msg_{uuid4().hex}")
            url = webhooks.callback_url(env["WEBHOOK_URL"], job_id, token=None)
            answer = self._stand.http.post(url, content=body, headers=headers)
            answer.raise_for_status()

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(one, jobs))

    def look(self, count: int, *, hls: str, seconds: float) -> None:
        """Have cameras looked at."""
        for number in range(count):
            self._stand.call(
                Service.INGEST,
                "POST",
                f"/cctv/measured-{number}/preprocess",
                json={"hls": hls, "sec": seconds},
            )

    def schedule(self, jobs: Sequence[str], *, every: float, times: int) -> None:
        """Have jobs analysed anew so many times; each begins three seconds after it was made."""
        for number, job_id in enumerate(jobs):
            later = timedelta(seconds=3 + every * number / len(jobs))
            anchor = datetime.now(UTC) + later
            wanted = {
                "name": f"measured-{uuid4().hex}",
                "trigger": {"type": "interval", "seconds": every, "anchor": anchor.isoformat()},
                "start_at": anchor.isoformat(),
                "end_at": (anchor + timedelta(seconds=every * (times - 0.5))).isoformat(),
                "target": "audio.reanalyse",
                "params": {"job_id": job_id},
            }
            self._stand.call(Service.DISPATCHER, "POST", "/schedules", json=wanted)

    def watch(self, jobs: Sequence[str], *, streams: int, seconds: float) -> Watched:
        """Open event streams of jobs, by turns, until these end or so long."""
        urls = self._stand.urls(Service.RESULTS)
        wanted = [
            f"{urls[number % len(urls)]}/jobs/{jobs[number % len(jobs)]}/events"
            for number in range(streams)
        ]
        found = asyncio.run(_watch(wanted, self._stand.state.api_key or "", seconds))
        return Watched(streams, sum(each for each, _ in found), sum(each for _, each in found))


def recording(size: int) -> bytes:
    """Return a WAV file of so many bytes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(max(size - 44, 3_200) // 2 * 2))
    return buffer.getvalue()


async def _watch(urls: Sequence[str], key: str, seconds: float) -> list[tuple[float, int]]:
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        timeout=_PATIENCE, limits=limits, headers=headers, trust_env=False
    ) as client:
        return await asyncio.gather(*(_stream(client, url, seconds) for url in urls))


async def _stream(client: httpx.AsyncClient, url: str, seconds: float) -> tuple[float, int]:
    began, events = time.monotonic(), 0
    try:
        async with asyncio.timeout(seconds), client.stream("GET", url) as answer:
            answer.raise_for_status()
            opened = time.monotonic()
            async for line in answer.aiter_lines():
                live = time.monotonic() - opened > _HISTORY_SECONDS
                events += live and line.startswith("data:")
    except TimeoutError:
        pass  # so long was asked for
    return time.monotonic() - began, events
