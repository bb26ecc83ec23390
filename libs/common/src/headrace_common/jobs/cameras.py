"""A camera job's row and its stream entry: each can be made of the other."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import JsonValue

from headrace_common.contracts.cctv import PreprocessEntry

#: Keys of a camera job's metadata: the number of the attempt under way, from 0, and the entry that
#: was told of last.
ATTEMPT: Final = "attempt"
ENTRY_ID: Final = "entry_id"

_TRACE: Final = ("traceparent", "tracestate")
#: Fields of the producer's that we do not know, kept for whoever does.
_EXTRA: Final = "extra_fields"


def camera_input(entry: PreprocessEntry) -> dict[str, JsonValue]:
    """Return what a camera job's row keeps of its entry; the trace has a column of its own."""
    extra = {k: str(v) for k, v in (entry.model_extra or {}).items() if k not in _TRACE}
    return {
        "cctv_id": entry.cctv_id,
        "hls": entry.hls,
        "sec": entry.sec,
        "attempt": entry.attempt,
        "enqueued_at": entry.enqueued_at,
        **({_EXTRA: dict(extra)} if extra else {}),
    }


def camera_entry(
    job_id: str,
    job_input: Mapping[str, Any],
    metadata: Mapping[str, Any],
    trace: Mapping[str, Any],
    *,
    run: int = 1,
) -> PreprocessEntry:
    """Make the entry of a camera job anew, for the run and the attempt that it is at.

    Raises:
        MalformedEntryError: the row was made of an entry that was no job.
    """
    extra = job_input.get(_EXTRA)
    fields = {
        **(extra if isinstance(extra, dict) else {}),
        **{name: trace[name] for name in _TRACE if name in trace},
        "cctvId": job_input.get("cctv_id", ""),
        "hls": job_input.get("hls", ""),
        "sec": job_input.get("sec", ""),
        "attempt": metadata.get(ATTEMPT, job_input.get("attempt", 0)),
        "enqueuedAt": job_input.get("enqueued_at", ""),
        "jobId": job_id,
        "jobRun": run,
    }
    return PreprocessEntry.parse({name: str(value) for name, value in fields.items()})


def entry_order(entry_id: str | None) -> tuple[int, int]:
    """Return what sorts the ids of a stream's entries by age; an id that is none comes first."""
    milliseconds, _, sequence = (entry_id or "").partition("-")
    if not (milliseconds.isdecimal() and sequence.isdecimal()):
        return (0, 0)
    return (int(milliseconds), int(sequence))
