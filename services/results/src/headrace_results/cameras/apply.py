"""What an entry of the job stream, or a report on it, means for its job: pure decisions."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from headrace_common.contracts import JobStatus
from headrace_common.contracts.cctv import CctvReport, CctvState, PreprocessEntry
from headrace_common.jobs import Change, Failure
from headrace_common.jobs.cameras import ATTEMPT, ENTRY_ID, entry_order
from headrace_common.jobs.states import processing_progress
from headrace_common.telemetry.secrets import without_url_values

#: Keys of a camera job's metadata, besides those that the contract of the row has.
DELIVERY: Final = "delivery"
REPORTED_AT: Final = "reported_at"

#: A number with more digits is none of ours.
_MOST_DIGITS: Final = 10
#: What a report is on, as the job's status.
_STATUS: Final = {
    CctvState.QUEUED: JobStatus.QUEUED,
    CctvState.PROCESSING: JobStatus.PROCESSING,
    CctvState.COMPLETED: JobStatus.COMPLETED,
    CctvState.FAILED: JobStatus.FAILED,
    CctvState.CANCELLED: JobStatus.CANCELLED,
}
#: Where a new entry of a job that is known finds it.
_WAITS: Final = frozenset({JobStatus.QUEUING, JobStatus.QUEUED})
#: A report that comes late changes nothing, wherever the job is.
_NOWHERE: Final[frozenset[JobStatus]] = frozenset()


@dataclass(frozen=True)
class CameraState:
    """Where a camera job is when something is said of it.

    Attributes:
        progress: per cent.
        entry_id: of the newest entry that is known.
        metadata: of the job.
        run: of the job; entries and reports of another say nothing of this one.
    """

    status: JobStatus
    progress: int
    entry_id: str | None = None
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    run: int = 1


def change_for_entry(entry: PreprocessEntry, entry_id: str, state: CameraState) -> Change | None:
    """Return what an entry that was read changes in its job; None where it is known already."""
    if entry.job_run != state.run or entry_order(entry_id) <= entry_order(state.entry_id):
        return None
    message = "Waiting in the stream"
    if entry.attempt:
        message = f"Retry {entry.attempt} waits in the stream"
    waits = state.status in _WAITS or state.status.is_final
    return Change(
        job_id=entry.job_id,
        to=JobStatus.QUEUED if waits else JobStatus.PROCESSING,
        message=message,
        progress=None if waits else state.progress,
        queue_message_id=entry_id,
        data={ATTEMPT: entry.attempt, ENTRY_ID: entry_id},
    )


def changes_for_report(report: CctvReport, state: CameraState) -> list[Change]:
    """Return what `report` wishes of its job, in order; the job's guard decides on each."""
    if run_of(report) != state.run:
        # How far a run is that is over would fill the timeline; what came of it is worth a line.
        return [] if report.state is CctvState.PROCESSING else [_too_late(report)]
    match report.state:
        case CctvState.COMPLETED:
            result = report.result.model_dump(mode="json") if report.result else {}
            return [_change(report, state, to=JobStatus.COMPLETED, result=result)]
        case CctvState.FAILED:
            return [_change(report, state, to=JobStatus.FAILED, failure=_failure(report))]
        case CctvState.PROCESSING if not _says_nothing(report, state):
            return _under_way(report, state)
        case CctvState.QUEUED if not _says_nothing(report, state):
            return [_repeated(report, state)]
        case _:  # that a job is cancelled its row said before any worker
            return [_too_late(report)]


def _says_nothing(report: CctvReport, state: CameraState) -> bool:
    return is_late(report, state) or state.status.is_final


def run_of(report: CctvReport) -> int:
    """Return the run of the job that a report is on."""
    text = report.entry.get("jobRun", "1")
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else 1


def is_late(report: CctvReport, state: CameraState) -> bool:
    """Whether something as new was told before: of a later entry, delivery, or moment.

    An entry that is handed out again, or repeated as another, is newer whatever the clocks of
    the two processes say.
    """
    told = state.metadata
    try:
        moment = datetime.fromisoformat(str(told[REPORTED_AT]))
        delivery = int(str(told[DELIVERY]))
    except (KeyError, ValueError):
        return False
    last = (entry_order(str(told.get(ENTRY_ID))), delivery, moment)
    return (entry_order(report.entry_id), report.delivery, report.at) <= last


def _under_way(report: CctvReport, state: CameraState) -> list[Change]:
    """Enter `processing` where the job is not there or another begins with it; tell progress."""
    changes: list[Change] = []
    told = (state.metadata.get(ENTRY_ID), state.metadata.get(DELIVERY))
    begins = told != (report.entry_id, report.delivery)
    if begins or state.status is not JobStatus.PROCESSING:
        changes.append(_change(report, state, to=JobStatus.PROCESSING, takes_up=begins))
    if not changes or report.progress:
        reached = processing_progress(report.progress or 0)
        changes.append(
            _change(
                report,
                state,
                to=JobStatus.PROCESSING,
                # A later attempt begins below what an earlier one reached; it is news all the same.
                progress=max(reached, state.progress),
            )
        )
    return changes


def _repeated(report: CctvReport, state: CameraState) -> Change:
    """Note that an attempt failed and when the next is due; the status does not move back."""
    waits = state.status in _WAITS
    following = _attempt(report) + 1
    return _change(
        report,
        state,
        to=JobStatus.QUEUED if waits else JobStatus.PROCESSING,
        progress=None if waits else state.progress,
        metadata={ATTEMPT: following, "stage": None},
        data={
            ATTEMPT: following,
            "code": report.error.code if report.error else None,
            "retry_at": report.retry_at.isoformat() if report.retry_at else None,
        },
    )


def _too_late(report: CctvReport) -> Change:
    return Change(
        job_id=report.job_id,
        to=_STATUS[report.state],
        message=without_url_values(report.message),
        only_from=_NOWHERE,
        data={ENTRY_ID: report.entry_id, DELIVERY: report.delivery},
    )


def _change(
    report: CctvReport,
    state: CameraState,
    *,
    to: JobStatus,
    metadata: dict[str, JsonValue] | None = None,
    data: dict[str, JsonValue] | None = None,
    result: dict[str, JsonValue] | None = None,
    failure: Failure | None = None,
    progress: int | None = None,
    takes_up: bool = False,
) -> Change:
    newer = entry_order(report.entry_id) > entry_order(state.entry_id)
    # What is refused merges its metadata all the same, so that of a final job nothing is told.
    told = {} if state.status.is_final else {**_told(report), **(metadata or {})}
    return Change(
        job_id=report.job_id,
        to=to,
        message=without_url_values(report.message),
        progress=progress,
        metadata=told,
        data=data or {},
        result=result,
        failure=failure,
        queue_message_id=report.entry_id if newer else None,
        takes_up=takes_up,
    )


def _told(report: CctvReport) -> dict[str, JsonValue]:
    return {
        ATTEMPT: _attempt(report),
        "stage": report.stage.value if report.stage else None,
        "consumer": report.consumer,
        ENTRY_ID: report.entry_id,
        DELIVERY: report.delivery,
        REPORTED_AT: report.at.isoformat(),
    }


def _attempt(report: CctvReport) -> int:
    text = report.entry.get("attempt", "0")
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else 0


def _failure(report: CctvReport) -> Failure:
    if report.error is None:
        return Failure("preprocess_failed", without_url_values(report.message))
    return Failure(report.error.code, without_url_values(report.error.message))
