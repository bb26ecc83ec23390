"""Entries as they come, and the dead letters and reports that are made of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from headrace_common.contracts.cctv import (
    CctvError,
    CctvReport,
    CctvResult,
    CctvState,
    MalformedEntryError,
    PreprocessEntry,
)
from headrace_common.telemetry import current_trace
from headrace_gpu_preprocessor.stream.deliveries import Hold, RawFields
from headrace_gpu_preprocessor.stream.job import LeasedJob
from headrace_gpu_preprocessor.stream.plan import Bury, Failure, Retry

#: An entry with more fields is none of ours, and Lua unpacks only some thousands of them.
_MOST_FIELDS: Final = 100
#: Of an unreadable entry so much goes into its dead letter, and into the report.
_MOST_LETTER_FIELDS: Final = 500
_LONGEST_REPORTED_VALUE: Final = 500
_NOT_IN_AN_ID: Final = frozenset({"attempt", "roadRegion", "road_region"})
#: Fields that we add to a dead letter; an original one of that name gives way.
_LETTER_FIELDS: Final = frozenset(
    {b"reason", b"code", b"failedAt", b"sourceId", b"deliveries", b"consumer", b"fieldsDropped"}
)


def read_entry(fields: RawFields) -> PreprocessEntry:
    """Read an entry.

    Raises:
        MalformedEntryError: it is no job; every fault is named.
    """
    if len(fields) > _MOST_FIELDS:
        raise MalformedEntryError(f"{len(fields)} fields; at most {_MOST_FIELDS} make sense")
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError:
        raise MalformedEntryError("fields must be UTF-8 text") from None
    return PreprocessEntry.parse(texts)


def job_id_of(fields: RawFields) -> str | None:
    """Return the id of the job that a malformed entry was meant to be, where that can be told."""
    # What an id is not derived from, is left out: it may be at fault, or too long to be whole here.
    texts = {name: text for name, text in _readable(fields).items() if name not in _NOT_IN_AN_ID}
    for guess in (texts, _only_the_id(texts)):
        try:
            return PreprocessEntry.parse(guess).job_id
        except MalformedEntryError:
            continue
    return None


def dead_letter(fields: RawFields, hold: Hold, consumer: str, bury: Bury) -> dict[bytes, bytes]:
    """Make the dead letter of an entry: the original fields, and why it is there."""
    kept = [name for name in fields if name not in _LETTER_FIELDS][:_MOST_LETTER_FIELDS]
    added = {
        "reason": bury.reason,
        "code": bury.code,
        "failedAt": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "sourceId": hold.entry_id,
        "deliveries": str(hold.delivery),
        "consumer": consumer,
    }
    if dropped := len(fields) - len(kept) - len(_LETTER_FIELDS & set(fields)):
        added["fieldsDropped"] = str(dropped)
    return {name: fields[name] for name in kept} | {
        name.encode(): value.encode(errors="replace") for name, value in added.items()
    }


class ReportMaker:
    """Says what becomes of entries (V9), in the name of one consumer."""

    def __init__(self, consumer: str) -> None:
        """Make reports of `consumer`."""
        self._consumer = consumer

    def processing(self, job: LeasedJob) -> dict[str, str]:
        """Return the fields of a report on how far a job is."""
        now = job.now
        return self._of(
            job.entry,
            Hold(job.entry_id, job.delivery),
            state=CctvState.PROCESSING,
            message=now.message,
            stage=now.stage,
            progress=now.percent,
        )

    def completed(self, entry: PreprocessEntry, hold: Hold, result: CctvResult) -> dict[str, str]:
        """Return the fields of the report on a job that is done."""
        message = f"Done: {result.damages} damages found"
        return self._of(
            entry, hold, state=CctvState.COMPLETED, message=message, progress=100.0, result=result
        )

    def queued(
        self, entry: PreprocessEntry, hold: Hold, failure: Failure, retry: Retry, *, due: datetime
    ) -> dict[str, str]:
        """Return the fields of the report on a failed attempt that is repeated when `due`."""
        return self._of(
            entry,
            hold,
            state=CctvState.QUEUED,
            message=f"Attempt {retry.attempt} in {retry.delay_seconds:.0f} s: {failure.message}",
            error=failure.for_report(),
            retry_at=due,
        )

    def failed(self, entry: PreprocessEntry, hold: Hold, bury: Bury) -> dict[str, str]:
        """Return the fields of the report on a job that is given up."""
        return self._of(
            entry,
            hold,
            state=CctvState.FAILED,
            message=bury.reason,
            error=Failure(bury.code, bury.reason, retryable=False).for_report(),
        )

    def cancelled(self, entry: PreprocessEntry, hold: Hold) -> dict[str, str]:
        """Return the fields of the report on a job that was not worked on, or no further."""
        message = "Not worked on any more: the job is cancelled"
        return self._of(entry, hold, state=CctvState.CANCELLED, message=message)

    def unreadable(self, fields: RawFields, hold: Hold, bury: Bury) -> dict[str, str]:
        """Return the fields of the report on an entry that is no job; none without a job's id."""
        job_id = job_id_of(fields)
        if job_id is None:
            return {}
        error: CctvError = Failure(bury.code, bury.reason, retryable=False).for_report()
        report = CctvReport(
            job_id=job_id,
            entry={
                name: value[:_LONGEST_REPORTED_VALUE] for name, value in _readable(fields).items()
            },
            entry_id=hold.entry_id,
            state=CctvState.FAILED,
            message=_short(bury.reason),
            delivery=hold.delivery,
            consumer=self._consumer,
            error=error,
            at=datetime.now(UTC),
        )
        return report.stream_fields({})

    def _of(
        self,
        entry: PreprocessEntry,
        hold: Hold,
        *,
        state: CctvState,
        message: str,
        **more: object,
    ) -> dict[str, str]:
        report = CctvReport.model_validate(
            {
                "job_id": entry.job_id,
                "entry": entry.fields(),
                "entry_id": hold.entry_id,
                "state": state,
                "message": _short(message),
                "delivery": hold.delivery,
                "consumer": self._consumer,
                "at": datetime.now(UTC),
                **more,
            }
        )
        # What is open here is of the entry's trace, where that has one.
        return report.stream_fields(current_trace() or entry.trace)


def _only_the_id(texts: Mapping[str, str]) -> dict[str, str]:
    """An entry that holds water, with the id of this one."""
    sound = {"cctvId": "-", "hls": "http://-", "sec": "1", "enqueuedAt": "0"}
    return {**sound, "jobId": texts["jobId"]} if texts.get("jobId") else {}


def _readable(fields: RawFields) -> dict[str, str]:
    """The first fields as text, whatever they hold."""
    pairs = list(fields.items())[:_MOST_FIELDS]
    return {
        name.decode(errors="replace")[:_LONGEST_REPORTED_VALUE]: value.decode(errors="replace")
        for name, value in pairs
    }


def _short(message: str) -> str:
    return message[:1_000]
