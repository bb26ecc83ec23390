"""A camera job's row and its stream entry: each can be made of the other, or of the registry."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy.orm import Session

from headrace_common.contracts.cctv import PreprocessEntry
from headrace_common.contracts.regions import Polygons
from headrace_common.db.models import Camera
from headrace_common.errors import NotFoundError

#: Keys of a camera job's metadata: the number of the attempt under way, from 0, and the entry that
#: was told of last.
ATTEMPT: Final = "attempt"
ENTRY_ID: Final = "entry_id"

_TRACE: Final = ("traceparent", "tracestate")
#: Fields of the producer's that we do not know, kept for whoever does.
_EXTRA: Final = "extra_fields"
_REGION: Final = "road_region"


class UnknownCameraError(NotFoundError):
    """No camera of that name is registered."""

    code = "unknown_camera"
    title = "Unknown camera"

    def __init__(self, name: str) -> None:
        """Say that no camera has this name."""
        super().__init__(f"no camera {name[:200]!r} is registered", camera=name[:200])


def registered_camera(session: Session, name: str) -> Camera:
    """Return a camera of the registry.

    Raises:
        UnknownCameraError: there is none of that name.
    """
    camera = session.get(Camera, name)
    if camera is None:
        raise UnknownCameraError(name)
    return camera


def entry_for_camera(
    camera: Camera,
    job_id: str,
    *,
    enqueued_at: int,
    seconds: float | None = None,
    region: Polygons | None = None,
    trace: Mapping[str, str] | None = None,
) -> PreprocessEntry:
    """Make the entry of a new job that looks at a registered camera.

    Args:
        camera: says where its stream and the road are.
        job_id: of the job.
        enqueued_at: milliseconds since 1970.
        seconds: of the clip; the camera's own if not given.
        region: where the road is; the camera's own if not given.
        trace: W3C trace context.
    """
    fields = {
        **(trace or {}),
        "cctvId": camera.name,
        "hls": camera.hls,
        "sec": camera.seconds if seconds is None else seconds,
        "enqueuedAt": enqueued_at,
        "jobId": job_id,
        "roadRegion": camera.region if region is None else region,
    }
    return PreprocessEntry.model_validate(fields)


def camera_input(entry: PreprocessEntry) -> dict[str, JsonValue]:
    """Return what a camera job's row keeps of its entry; the trace has a column of its own."""
    extra = {k: str(v) for k, v in (entry.model_extra or {}).items() if k not in _TRACE}
    return {
        "cctv_id": entry.cctv_id,
        "hls": entry.hls,
        "sec": entry.sec,
        "attempt": entry.attempt,
        "enqueued_at": entry.enqueued_at,
        **({_REGION: _as_lists(entry.road_region)} if entry.road_region else {}),
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
    extra, region = job_input.get(_EXTRA), job_input.get(_REGION)
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
        **({"roadRegion": json.dumps(region)} if region is not None else {}),
    }
    return PreprocessEntry.parse({name: str(value) for name, value in fields.items()})


def _as_lists(region: Polygons) -> JsonValue:
    """Return a region as JSON has it, which is what comes back from the database."""
    return [[[x, y] for x, y in polygon] for polygon in region]


def entry_order(entry_id: str | None) -> tuple[int, int]:
    """Return what sorts the ids of a stream's entries by age; an id that is none comes first."""
    milliseconds, _, sequence = (entry_id or "").partition("-")
    if not (milliseconds.isdecimal() and sequence.isdecimal()):
        return (0, 0)
    return (int(milliseconds), int(sequence))
