"""One direct upload from its first byte to its answer, taken up where it was left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from headrace.client import Client
from headrace.direct.memory import Memory, Remembered
from headrace.direct.parts import FileParts, md5_of, sha256_of
from headrace.direct.transfer import PartSender, patiently
from headrace.failures import CommandError, ExitCode

#: Times that what is missing is sent, where S3 lost or replaced a part meanwhile.
_ROUNDS: Final = 3


class Reporter(Protocol):
    """Who is told how it goes."""

    def begin(self, what: str, *, done: int, total: int) -> None:
        """A phase begins, `done` of `total` bytes of which are done."""

    def advance(self, count: int) -> None:
        """So many more bytes are done."""

    def say(self, text: str) -> None:
        """Something people should know."""


@dataclass(frozen=True)
class Errand:
    """What is to be uploaded, and where to.

    Attributes:
        begin: when its job is to begin: `run_at`, `delay` or nothing.
    """

    path: Path
    token: str
    priority: str
    idempotency_key: str | None = None
    parallel: int = 4
    begin: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Tally:
    """How many parts went where."""

    parts: int = 0
    sent: int = 0
    skipped: int = 0
    bytes_sent: int = 0


class DirectUpload:
    """Uploads one file."""

    def __init__(self, client: Client, errand: Errand, reporter: Reporter) -> None:
        """Prepare it."""
        self._client = client
        self._errand = errand
        self._reporter = reporter
        self._size = errand.path.stat().st_size
        self._memory = Memory.of(
            errand.path,
            client.connection.ingest_url,
            errand.token,
            errand.priority,
            *errand.begin.values(),
        )
        self._tally = Tally()

    def run(self) -> dict[str, Any]:
        """Do it, and return the answer to the upload with the figures in `direct`.

        Raises:
            CommandError: it was refused, or a server stayed away; repeating it resumes.
        """
        remembered, view = self._resumed() or self._opened()
        rounds = _ROUNDS
        while True:
            rounds -= 1
            etags = self._send_missing(remembered, view)
            try:
                answer = self._complete(view["job_id"], etags)
            except CommandError as error:
                view = self._view(view["job_id"])
                if view["state"] == "ended":
                    self._memory.forget()
                if error.code is not ExitCode.REFUSED or view["state"] != "open" or not rounds:
                    raise
            else:
                self._memory.forget()
                return {**answer, "direct": vars(self._tally)}

    def abort(self) -> dict[str, Any]:
        """Give an upload up that was begun.

        Raises:
            CommandError: none is remembered, or it was accepted.
        """
        remembered = self._memory.read()
        if remembered is None or remembered.job_id is None:
            raise CommandError("no upload of this file is under way", ExitCode.NOT_FOUND)
        answer: dict[str, Any] = self._client.ingest(
            "DELETE", f"/direct-uploads/{remembered.job_id}"
        )
        self._memory.forget()
        return answer

    def _resumed(self) -> tuple[Remembered, dict[str, Any]] | None:
        """Find the upload that an earlier command began."""
        remembered = self._memory.read()
        if remembered is None or remembered.job_id is None:
            return None
        try:
            view = self._view(remembered.job_id)
        except CommandError as error:
            if error.code is not ExitCode.NOT_FOUND:
                raise
            view = {"state": "ended"}
        if view["state"] != "ended":
            return remembered, view
        self._reporter.say("the earlier upload of this file has ended; beginning anew")
        self._memory.forget()
        return None

    def _opened(self) -> tuple[Remembered, dict[str, Any]]:
        remembered = self._memory.read()
        if remembered is None:
            self._reporter.begin("hashing", done=0, total=self._size)
            sha256 = sha256_of(self._errand.path, self._reporter.advance)
            remembered = self._memory.begin(
                sha256=sha256, idempotency_key=self._errand.idempotency_key
            )
        body = {
            "filename": self._errand.path.name,
            "size": self._size,
            "sha256": remembered.sha256,
            "priority": self._errand.priority,
            **self._errand.begin,
        }
        try:
            view = self._patiently(
                "POST",
                f"/tokens/{quote(self._errand.token, safe='')}/direct-uploads",
                json=body,
                headers={"idempotency-key": remembered.idempotency_key},
            )
        except CommandError as error:
            if error.code is not ExitCode.UNAVAILABLE:
                self._memory.forget()  # what was refused is not resumed
            raise
        return self._memory.update(remembered, job_id=view["job_id"]), view

    def _send_missing(self, remembered: Remembered, view: dict[str, Any]) -> dict[int, str]:
        """Send what S3 has not, and return the MD5s of all parts; none where they say nothing."""
        if view["state"] != "open":
            return {}
        parts = FileParts(self._errand.path, self._size, view["part_bytes"])
        there = self._right_parts(parts, view, compare=remembered.etags_are_md5)
        missing = [number for number in range(1, parts.count + 1) if number not in there]
        done = sum(map(parts.bytes_of, there))
        self._tally.parts = parts.count
        self._tally.skipped = self._tally.skipped or len(there)
        if there:
            self._reporter.say(f"resuming, {len(there)} of {parts.count} parts are there")
        self._reporter.begin("sending", done=done, total=self._size)
        sender = PartSender(self._client, view["job_id"], parts)
        sent = sender.send(missing, parallel=self._errand.parallel, sent=self._note_sent)
        if not sender.etags_are_md5:
            self._memory.update(remembered, etags_are_md5=False)
        return there | sent if remembered.etags_are_md5 and sender.etags_are_md5 else {}

    def _note_sent(self, count: int) -> None:
        self._tally.sent += 1
        self._tally.bytes_sent += count
        self._reporter.advance(count)

    def _right_parts(
        self, parts: FileParts, view: dict[str, Any], *, compare: bool
    ) -> dict[int, str]:
        """Return the MD5s of the parts that S3 has as they are in the file."""
        there: dict[int, str] = {}
        for part in view["parts"]:
            digest = md5_of(parts.read(part["number"])) if compare else part["etag"]
            if digest == part["etag"]:
                there[part["number"]] = digest
        return there

    def _complete(self, job_id: str, etags: dict[int, str]) -> dict[str, Any]:
        body = {"parts": [{"number": number, "etag": etag} for number, etag in etags.items()]}
        self._reporter.begin("checking", done=0, total=self._size)
        return self._patiently("POST", f"/direct-uploads/{job_id}/complete", json=body)

    def _view(self, job_id: str) -> dict[str, Any]:
        return self._patiently("GET", f"/direct-uploads/{job_id}")

    def _patiently(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Call the API, also over a restart of it."""
        answer: dict[str, Any] = patiently()(self._client.ingest, method, path, **arguments)
        return answer
