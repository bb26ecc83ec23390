"""Sending a recording straight to S3, or giving that up half-way."""

import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from headrace_chaos.asking import Asking
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.ledger import Entry, Ledger
from headrace_chaos.plan import DirectEnd, PlannedJob

_PATIENCE_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 1.0
_TIMEOUT: Final = httpx.Timeout(10, connect=2)
#: An upload that nobody completes has to end by itself while the run lasts.
_LONGEST_EXPIRY_HOURS: Final = 0.1


@dataclass(frozen=True)
class DirectSender:
    """Sends recordings in parts, by the URLs that the API signs.

    Attributes:
        endpoints: of the stack.
        ledger: where promises are noted.
        asker: sends the requests to the API.
    """

    endpoints: Endpoints
    ledger: Ledger
    asker: Asking

    def send(self, job: PlannedJob, data: bytes, promise: dict[str, Any]) -> str | None:
        """Send a recording, and return its job's id; None if it was not accepted."""
        self.ledger.note(Entry.ASKED, **promise)
        opened = self._opened(job, promise, data)
        if opened is None:
            return None
        job_id = str(opened["job_id"])
        ending = self._ending(job)
        sent = self._send_parts(job_id, opened, data)
        if ending is DirectEnd.ABANDON:
            return None
        if ending is DirectEnd.ABORT or not sent:
            self.asker.ask(
                "ingest-api", "DELETE", f"/direct-uploads/{job_id}", patience=_PATIENCE_SECONDS
            )
            return None
        return self._completed(job_id, promise)

    def _opened(
        self, job: PlannedJob, promise: dict[str, Any], data: bytes
    ) -> dict[str, Any] | None:
        asked = {
            "filename": "direct.wav",
            "size": len(data),
            "sha256": promise["sha256"],
            "priority": promise["lane"],
            **job.begin,
        }
        answer = self.asker.ask(
            "ingest-api",
            "POST",
            f"/tokens/{promise['token']}/direct-uploads",
            patience=_PATIENCE_SECONDS,
            json=asked,
            headers={"idempotency-key": promise["key"]},
        )
        if answer is None or not answer.is_success:
            status = answer.status_code if answer else None
            self.ledger.note(Entry.REFUSED, **promise, status=status)
            return None
        opened: dict[str, Any] = answer.json()
        return opened

    def _send_parts(self, job_id: str, opened: dict[str, Any], data: bytes) -> bool:
        """Put every part to its URL, again and again while S3 does not take it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        size = int(opened["part_bytes"])
        left = {part["number"]: part for part in opened["urls"]}
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            while left and time.monotonic() < deadline:
                for number, part in list(left.items()):
                    piece = data[(number - 1) * size : number * size]
                    if _put(client, part, piece):
                        del left[number]
                if left:
                    time.sleep(_PAUSE_SECONDS)
                    left = self._signed_again(job_id, left)
        return not left

    def _signed_again(self, job_id: str, left: dict[int, Any]) -> dict[int, Any]:
        answer = self.asker.ask(
            "ingest-api",
            "POST",
            f"/direct-uploads/{job_id}/parts",
            patience=_PATIENCE_SECONDS,
            json={"parts": [{"number": number} for number in left]},
        )
        if answer is None or not answer.is_success:
            return left
        return {part["number"]: part for part in answer.json()["urls"]}

    def _completed(self, job_id: str, promise: dict[str, Any]) -> str | None:
        answer = self.asker.ask(
            "ingest-api",
            "POST",
            f"/direct-uploads/{job_id}/complete",
            patience=_PATIENCE_SECONDS,
        )
        if answer is None:
            self.ledger.note(Entry.UNANSWERED, job_id=job_id, **promise)
            return None
        if not answer.is_success:
            self.ledger.note(
                Entry.REFUSED, **promise, status=answer.status_code, text=answer.text[:300]
            )
            return None
        self.ledger.note(Entry.ACCEPTED, job_id=job_id, **promise)
        return job_id

    def _ending(self, job: PlannedJob) -> DirectEnd:
        hours = float(self.endpoints.settings.get("DIRECT_UPLOAD_EXPIRY_HOURS", "24"))
        if job.direct_end is DirectEnd.ABANDON and hours > _LONGEST_EXPIRY_HOURS:
            return DirectEnd.ABORT
        return job.direct_end


def _put(client: httpx.Client, part: dict[str, Any], data: bytes) -> bool:
    try:
        answer = client.put(part["url"], content=data, headers=part["headers"])
    except httpx.TransportError:
        return False
    return answer.is_success
