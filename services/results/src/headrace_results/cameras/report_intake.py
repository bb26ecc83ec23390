"""Reports of the gpu-preprocessor go into the inbox before they are acknowledged.

From there they are applied like those of webhooks. A batch is one transaction; what is wrong
with one report is undone alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
import structlog
from pydantic import JsonValue, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.contracts import JobEvent, JobKind
from headrace_common.contracts.cctv import (
    DEAD_REPORTS_SUFFIX,
    MAX_MESSAGE_LENGTH,
    REPORT_FIELD,
    REPORTS_SUFFIX,
    RESULTS_GROUP,
    CctvReport,
)
from headrace_common.db import Database, Job
from headrace_common.errors import HeadraceError, UnprocessableError
from headrace_common.jobs import JobStore
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.messaging import MessagingSystem, processing
from headrace_common.telemetry.secrets import deeply_without_url_values
from headrace_results import inbox
from headrace_results.actors import ReportQueue
from headrace_results.cameras.groups import DATABASE_AWAY, StreamEntry
from headrace_results.cameras.rows import OtherKindError, job_of_report
from headrace_results.inbox import NewReport, Receipt, Source
from headrace_results.metrics import REPORTS_RECEIVED, REPORTS_REFUSED
from headrace_results.reports import read_object

log = structlog.get_logger()


class ReportIntake:
    """Takes reports into the inbox, from where they are applied like those of webhooks."""

    def __init__(
        self,
        client: redis.Redis,
        database: Database,
        store: JobStore,
        queue: ReportQueue,
        *,
        stream: str,
    ) -> None:
        """Make it.

        Args:
            client: acknowledges.
            database: where the inbox is.
            store: creates jobs that are not known yet.
            queue: told of every report that is new.
            stream: of jobs, after which the reports' stream is named.
        """
        self._client = client
        self._database = database
        self._store = store
        self._queue = queue
        self._stream = f"{stream}{REPORTS_SUFFIX}"
        self._dead = f"{stream}{DEAD_REPORTS_SUFFIX}"

    def take(self, entries: Sequence[StreamEntry]) -> None:
        """Keep reports; then acknowledge and delete them, so that the stream stays short."""
        refused: dict[str, _Refusal] = {}
        readable = []
        for entry in entries:
            try:
                readable.append(_read_report(entry))
            except HeadraceError as error:
                refused[entry.id] = _refusal(entry, error)
        readable.sort(key=lambda read: read.report.job_id)  # stable: in their order within a job
        kept: list[_Kept] = []
        with self._database.begin() as session:
            for read in readable:
                one = self._kept(session, read)
                if isinstance(one, _Kept):
                    kept.append(one)
                else:
                    refused[read.entry.id] = one
        self._store.publish_events([one.created for one in kept if one.created])
        for receipt in (one.receipt for one in kept):
            known = str(receipt.duplicate).lower()
            REPORTS_RECEIVED.labels(source=Source.STREAM, duplicate=known).inc()
            if not receipt.duplicate:
                self._queue.send(receipt)
        self._acknowledge(entries, refused)

    def _acknowledge(self, entries: Sequence[StreamEntry], refused: "dict[str, _Refusal]") -> None:
        """Drop the entries; a refused one goes to the dead letters in the same step."""
        ids = [entry.id for entry in entries]
        with self._client.pipeline(transaction=True) as step:
            for entry in (entry for entry in entries if entry.id in refused):
                step.xadd(self._dead, refused[entry.id].letter(entry))
            step.xack(self._stream, RESULTS_GROUP, *ids)
            step.xdel(self._stream, *ids)
            step.execute()

    def _kept(self, session: Session, read: "_ReadReport") -> "_Kept | _Refusal":
        report = read.report
        try:
            with (
                processing(
                    read.trace,
                    MessagingSystem.STREAM,
                    self._stream,
                    message_id=read.entry.id,
                    sent_ms=int(read.entry.id.partition("-")[0]),
                    group=RESULTS_GROUP,
                    job_id=report.job_id,
                ),
                session.begin_nested(),
            ):
                return self._keep(session, read)
        except DATABASE_AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - one report must not hold up all others
            return _refusal(read.entry, error)

    def _keep(self, session: Session, read: "_ReadReport") -> "_Kept":
        report = read.report
        created = self._store.create_missing_in(session, job_of_report(report))
        kind = session.scalar(select(Job.kind).where(Job.id == report.job_id))
        if kind != JobKind.CCTV_PREPROCESS:
            raise OtherKindError(f"job {report.job_id!r} is of another kind")
        new = NewReport(
            job_id=report.job_id,
            dedup_key=inbox.stream_key(self._stream, read.entry.id, report.job_id),
            source=Source.STREAM,
            payload=read.payload,
            # Without a trace of the sender's, the report belongs to the job's own.
            trace=current_trace() if read.trace else {},
        )
        return _Kept(created, inbox.keep(session, new))


@dataclass(frozen=True)
class _Refusal:
    """Why a report is not kept."""

    code: str
    reason: str

    def letter(self, entry: StreamEntry) -> dict[Any, Any]:
        """Return the fields of the dead letter: what entries that are given up have too."""
        return {
            **entry.fields,
            "reason": self.reason,
            "code": self.code,
            "failedAt": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "sourceId": entry.id,
            "deliveries": "1",
            "consumer": RESULTS_GROUP,
        }


@dataclass(frozen=True)
class _Kept:
    """A report in the inbox; `created` is its job's first event where there was no row yet."""

    created: JobEvent | None
    receipt: Receipt


@dataclass(frozen=True)
class _ReadReport:
    entry: StreamEntry
    report: CctvReport
    payload: dict[str, JsonValue]
    trace: dict[str, str]


def _read_report(entry: StreamEntry) -> _ReadReport:
    """Read a report; what is kept of it holds no value of the camera's URL.

    Raises:
        UnprocessableError: it is none.
    """
    payload = read_object(entry.fields.get(REPORT_FIELD.encode(), b""))
    try:
        report = CctvReport.model_validate(payload)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise UnprocessableError(f"not a report: {faults}") from None
    trace = {
        name: entry.fields[name.encode()].decode(errors="replace")
        for name in ("traceparent", "tracestate")
        if name.encode() in entry.fields
    }
    return _ReadReport(entry, report, _shown(payload), trace)


def _shown(payload: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a report without values of the camera's URL, and as a report may be."""
    shown: dict[str, JsonValue] = deeply_without_url_values(payload)
    for told in (shown, shown.get("error")):
        # What stands in a value's place may be longer than it.
        if isinstance(told, dict) and isinstance(message := told.get("message"), str):
            told["message"] = message[:MAX_MESSAGE_LENGTH]
    return shown


def _refusal(entry: StreamEntry, error: Exception) -> _Refusal:
    code = error.code if isinstance(error, HeadraceError) else "not_kept"
    REPORTS_REFUSED.labels(source=Source.STREAM, reason=code).inc()
    log.error("camera.report_refused", entry_id=entry.id, reason=code, exc_info=error)
    return _Refusal(
        code, error.detail if isinstance(error, HeadraceError) else type(error).__name__
    )
