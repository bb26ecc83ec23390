"""What is done to jobs that were accepted: cancelled, done anew, reported on once more."""

import json
import uuid
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from headrace_chaos.asking import Asking
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.ledger import Entry, Ledger, Verdict
from headrace_common import webhooks

_PATIENCE_SECONDS: Final = 120.0
_FINAL: Final = frozenset({"completed", "failed", "cancelled"})
_FORGED: Final = {"status": "failed", "error": {"code": "late", "message": "sent by chaos"}}


@dataclass(frozen=True)
class Deeds:
    """Does them, and notes in the ledger what came of each.

    Attributes:
        endpoints: of the stack.
        ledger: where it is noted.
        asker: sends the requests.
    """

    endpoints: Endpoints
    ledger: Ledger
    asker: Asking

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self._do(Entry.CANCEL, job_id, "DELETE", f"/jobs/{job_id}/cancel")

    def retry(self, job_id: str) -> None:
        """Have a job done anew, wherever it is, unless that was done already."""
        asked = {"force": "true", "run": "1"}
        self._do(Entry.RETRY, job_id, "POST", f"/jobs/{job_id}/retry", params=asked)

    def status(self, job_id: str) -> str | None:
        """Return a job's status; None if nobody tells now, or nobody knows it."""
        answer = self.asker.ask("results", "GET", f"/jobs/{job_id}", patience=2)
        return str(answer.json()["status"]) if answer and answer.is_success else None

    def is_final(self, job_id: str) -> bool:
        """Whether a job has ended."""
        return self.status(job_id) in _FINAL

    def replay(self, job_id: str) -> None:
        """Send what was reported of a job once more, twice with one id; and a failure too late."""
        answer = self.asker.ask(
            "results", "GET", f"/jobs/{job_id}/reports", patience=_PATIENCE_SECONDS
        )
        reports = answer.json()["reports"] if answer and answer.is_success else []
        payloads = [report["payload"] for report in reports[-1:]]
        for payload in [*payloads, *payloads, {"job_id": job_id, **_FORGED}]:
            self._report(job_id, payload)

    def _do(self, what: Entry, job_id: str, method: str, path: str, **request: Any) -> None:
        answer = self.asker.ask(
            "ingest-api",
            method,
            path,
            patience=_PATIENCE_SECONDS,
            not_known=lambda: self.ledger.note(what, job_id=job_id, verdict=Verdict.UNKNOWN),
            **request,
        )
        if answer is None:
            verdict = Verdict.UNKNOWN
        else:
            verdict = Verdict.GRANTED if answer.is_success else Verdict.REFUSED
        status = answer.status_code if answer else None
        self.ledger.note(what, job_id=job_id, verdict=verdict, status=status)

    def _report(self, job_id: str, payload: dict[str, Any]) -> None:
        body = json.dumps(payload).encode()
        # Two with the same content have the same id: one and the same webhook, come twice.
        message_id = f"chaos-{uuid.uuid5(uuid.NAMESPACE_OID, job_id + body.decode())}"
        secret = self.endpoints.settings["WEBHOOK_SECRETS"].split(",")[0]
        answer = self.asker.ask(
            "results",
            "POST",
            urlsplit(self.endpoints.settings["WEBHOOK_URL"]).path,
            patience=_PATIENCE_SECONDS,
            params={"job_id": job_id},
            content=body,
            headers={
                "content-type": "application/json",
                **webhooks.sign(body, secrets=[secret], message_id=message_id),
            },
        )
        status = answer.status_code if answer else None
        self.ledger.note(Entry.REPLAYED, job_id=job_id, status=status)
