"""Letters of the job stream and of its reports. They stay there: others may read them too.

A consumer group of our own says what was seen. What is lost of it with Redis, or what a replica
left behind that died, is read again and recognised.
"""

from datetime import UTC, datetime
from typing import Any, Final

import redis

from headrace_common.contracts.cctv import (
    REPORT_FIELD,
    MalformedEntryError,
    PreprocessEntry,
)
from headrace_dispatcher.dead.keeping import Keep
from headrace_dispatcher.dead.letter import (
    Kind,
    NewLetter,
    Source,
    pack_fields,
    read_object,
    storable_id,
)

GROUP: Final = "dead-letters"
#: All replicas share one name: what one has left unfinished any other takes up, at once.
_CONSUMER: Final = "dispatcher"
_BATCH: Final = 100
#: Fields that were added when the entry was given up.
LETTER_FIELDS: Final = frozenset(
    {"reason", "code", "failedAt", "sourceId", "deliveries", "consumer", "fieldsDropped"}
)


class StreamLetters:
    """Copies the entries of one dead-letter stream."""

    def __init__(
        self, client: redis.Redis, keep: Keep, *, source: Source, stream: str, dead_stream: str
    ) -> None:
        """Make it.

        Args:
            client: reads.
            keep: makes letters durable.
            source: STREAM or REPORTS.
            stream: where the entries were to be worked off.
            dead_stream: where they are; one that does not exist has none.
        """
        self.source = source
        self._client = client
        self._keep = keep
        self._stream = stream
        self._dead_stream = dead_stream

    def collect(self) -> None:
        """Copy all that are new.

        Raises:
            redis.RedisError: Redis is away.
        """
        if not self._client.exists(self._dead_stream):
            return
        self._ensure_group()
        # First what was read before and not seen to the end.
        for after in ("0", ">"):
            while self._copy(after) == _BATCH:
                pass

    def _ensure_group(self) -> None:
        try:
            self._client.xgroup_create(self._dead_stream, GROUP, id="0")
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _copy(self, after: str) -> int:
        answer: Any = self._client.xreadgroup(
            GROUP, _CONSUMER, {self._dead_stream: after}, count=_BATCH
        )
        entries = [entry for _, found in answer or [] for entry in found]
        if not entries:
            return 0
        # One that was deleted while it was pending has no fields.
        self._keep([self._letter(ident.decode(), fields) for ident, fields in entries if fields])
        self._client.xack(self._dead_stream, GROUP, *(ident for ident, _ in entries))
        return len(entries)

    def _letter(self, entry_id: str, fields: dict[bytes, bytes]) -> NewLetter:
        if self.source is Source.REPORTS:
            return report_letter(self._stream, self._dead_stream, entry_id, fields)
        return entry_letter(self._stream, self._dead_stream, entry_id, fields)


def entry_letter(
    stream: str, dead_stream: str, entry_id: str, fields: dict[bytes, bytes]
) -> NewLetter:
    """Read an entry that was given up (docs/reference/stream.md)."""
    told = _texts(fields)
    entry = _parsed(told)
    deliveries = told.get("deliveries", "")
    attempt = told.get("attempt", "")
    return NewLetter(
        source=Source.STREAM,
        queue=stream,
        source_id=entry_id,
        kind=Kind.STREAM_ENTRY,
        code=told.get("code") or "given_up",
        reason=told.get("reason") or "the entry does not say why",
        payload={"dead_stream": dead_stream, **pack_fields(fields)},
        died_at=_died_at(told.get("failedAt"), entry_id),
        job_id=entry.job_id if entry else storable_id(told.get("jobId")),
        run=entry.job_run if entry else None,
        # Each attempt before the last one ended; of the last one the deliveries are known.
        attempts=_number(attempt) + max(_number(deliveries), 1),
        at_source=True,
    )


def report_letter(
    stream: str, dead_stream: str, entry_id: str, fields: dict[bytes, bytes]
) -> NewLetter:
    """Read a report that could not be kept."""
    told = _texts(fields)
    report = read_object(told.get(REPORT_FIELD, ""))
    return NewLetter(
        source=Source.REPORTS,
        queue=stream,
        source_id=entry_id,
        kind=Kind.STREAM_REPORT,
        code=told.get("code") or "report_refused",
        reason=told.get("reason") or "the report does not say why",
        payload={"dead_stream": dead_stream, **pack_fields(fields)},
        died_at=_died_at(told.get("failedAt"), entry_id),
        job_id=storable_id(report.get("job_id")),
        at_source=True,
    )


def original_fields(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what an entry had before it was given up."""
    added = {name.encode() for name in LETTER_FIELDS}
    return {name: value for name, value in fields.items() if name not in added}


def _parsed(told: dict[str, str]) -> PreprocessEntry | None:
    original = {name: value for name, value in told.items() if name not in LETTER_FIELDS}
    try:
        entry = PreprocessEntry.parse(original)
    except MalformedEntryError:
        return None
    return entry if storable_id(entry.job_id) else None


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in fields.items()
    }


def _died_at(told: str | None, entry_id: str) -> datetime:
    """Return when it was given up: as it says, else when it was added."""
    try:
        at = datetime.fromisoformat(told or "")
    except ValueError:
        at = datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 0
