"""Sending jobs in, by every way, and noting what was promised."""

import json
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

import redis

from headrace_chaos.asking import Asking
from headrace_chaos.cameras import CLIP_SECONDS
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.ledger import Entry, Ledger
from headrace_chaos.looking_queues import redis_of
from headrace_chaos.plan import TOKENS, PlannedJob, Way
from headrace_chaos.recordings import RECORDINGS, md5_of, sha256_of
from headrace_chaos.sending_direct import DirectSender
from headrace_common.contracts import JobKind, JobStatus
from headrace_common.contracts.cctv import DEFAULT_STREAM
from headrace_common.errors import UnavailableError

_PATIENCE_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 0.5
_TEXTGRID: Final = RECORDINGS / "mary.TextGrid"
#: Any contour does: what is to be tried is the way of a job.
_PITCH: Final = {
    "unit": "Hz",
    "times": [round(0.01 * number, 2) for number in range(80)],
    "frequencies": [180.0 + number % 20 for number in range(80)],
}


class NothingAcceptedError(UnavailableError):
    """The stack takes nothing at all, so that there is nothing to try."""


@dataclass(frozen=True)
class Senders:
    """Sends planned jobs.

    Attributes:
        endpoints: of the stack.
        ledger: where promises are noted.
        asker: sends the requests.
        run: put before keys and tokens, so that one stack may see several workloads.
        cameras: URLs of playlists.
    """

    endpoints: Endpoints
    ledger: Ledger
    asker: Asking
    run: str
    cameras: tuple[str, ...]

    def make_tokens(self) -> None:
        """Make the references that recordings imitate.

        Raises:
            NothingAcceptedError: they could not be made.
        """
        pitch = json.dumps(_PITCH).encode()
        files = {"textgrid": _TEXTGRID.read_bytes(), "pitch": pitch}
        for token in TOKENS:
            token_id = self._token(token)
            self._made("POST", "/tokens", json={"id": token_id})
            wanted = ("textgrid", "pitch") if token == "both" else (token,)
            for kind in [each for each in wanted if each in files]:
                self._made("PUT", f"/tokens/{token_id}/{kind}", content=files[kind])

    def send(self, job: PlannedJob) -> str | None:
        """Send a job in, and return its id; None if it was not accepted, or nobody knows."""
        match job.way:
            case Way.STREAM:
                return self._add(job)
            case Way.CAMERA:
                return self._look(job)
            case Way.UPLOAD | Way.DIRECT:
                return self._upload(job)

    def _made(self, method: str, path: str, **request: Any) -> None:
        answer = self.asker.ask("ingest-api", method, path, patience=_PATIENCE_SECONDS, **request)
        if answer is None or not (answer.is_success or answer.status_code == 409):
            raise NothingAcceptedError(f"{method} {path}: {answer and answer.text[:300]}")

    def _upload(self, job: PlannedJob) -> str | None:
        data = job.cut.wav()
        promise = {
            "item": job.item,
            "kind": JobKind.AUDIO_ANALYSIS,
            "natural_end": JobStatus.FAILED if job.too_short else JobStatus.COMPLETED,
            "key": self._key(job),
            "token": self._token(job.token),
            "lane": job.lane,
            "sha256": sha256_of(data),
            "md5": md5_of(data),
            "seconds": job.cut.seconds,
        }
        request = {
            "params": {"priority": job.lane, **job.begin},
            "files": {"file": (f"{job.cut.voice}.wav", data)},
        }
        if job.way is Way.DIRECT:
            return DirectSender(self.endpoints, self.ledger, self.asker).send(job, data, promise)
        path = f"/tokens/{promise['token']}/upload-audio"
        return self._promised(path, promise, request)

    def _look(self, job: PlannedJob) -> str | None:
        camera = self._camera(job)
        promise = {
            "item": job.item,
            "kind": JobKind.CCTV_PREPROCESS,
            "natural_end": JobStatus.COMPLETED,
            "key": self._key(job),
            "camera": camera,
        }
        request = {"json": {"hls": self._playlist(job), "sec": CLIP_SECONDS}}
        return self._promised(f"/cctv/{camera}/preprocess", promise, request)

    def _promised(self, path: str, promise: dict[str, Any], request: dict[str, Any]) -> str | None:
        self.ledger.note(Entry.ASKED, **promise)
        answer = self.asker.ask(
            "ingest-api",
            "POST",
            path,
            patience=_PATIENCE_SECONDS,
            headers={"idempotency-key": promise["key"]},
            **request,
        )
        if answer is None:
            self.ledger.note(Entry.UNANSWERED, **promise)
            return None
        if not answer.is_success:
            self.ledger.note(
                Entry.REFUSED, **promise, status=answer.status_code, text=answer.text[:300]
            )
            return None
        job_id = str(answer.json()["job_id"])
        self.ledger.note(Entry.ACCEPTED, job_id=job_id, **promise)
        return job_id

    def _add(self, job: PlannedJob) -> str | None:
        """Add an entry as the Java producer does, again and again until Redis took it."""
        job_id = str(uuid.uuid5(uuid.NAMESPACE_URL, self._key(job)))
        fields: dict[Any, Any] = {
            "cctvId": self._camera(job),
            "hls": self._playlist(job),
            "sec": str(CLIP_SECONDS),
            "attempt": "0",
            "enqueuedAt": str(time.time_ns() // 1_000_000),
            "jobId": job_id,
        }
        deadline = time.monotonic() + _PATIENCE_SECONDS
        stream = self.endpoints.settings.get("REDIS_STREAM", DEFAULT_STREAM)
        client: Any = redis_of(self.endpoints)
        try:
            while time.monotonic() < deadline:
                try:
                    entry_id = client.xadd(stream, fields)
                except (redis.RedisError, OSError):
                    time.sleep(_PAUSE_SECONDS)
                    continue
                self.ledger.note(
                    Entry.ADDED,
                    job_id=job_id,
                    item=job.item,
                    kind=JobKind.CCTV_PREPROCESS,
                    natural_end=JobStatus.COMPLETED,
                    camera=fields["cctvId"],
                    entry_id=entry_id.decode(),
                    fields=fields,
                )
                return job_id
        finally:
            client.close()
        self.ledger.note(Entry.UNANSWERED, job_id=job_id, item=job.item)
        return None

    def _key(self, job: PlannedJob) -> str:
        return f"{self.run}-{job.item}"

    def _token(self, token: str) -> str:
        return f"{self.run}-{token}"

    def _camera(self, job: PlannedJob) -> str:
        """Each looks at a camera of its own, so that a result tells whose it is."""
        return f"{self.run}-cam-{job.item}"

    def _playlist(self, job: PlannedJob) -> str:
        return random.Random(job.item).choice(self.cameras)  # noqa: S311 - the same each time
