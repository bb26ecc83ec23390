"""What is measured of the object store."""

from typing import Final

from prometheus_client import Counter, Histogram

from headrace_common.telemetry.metrics import from_zero

SWIFT_SECONDS: Final = Histogram(
    "headrace_swift_request_duration_seconds",
    "Time of one request to Swift, by operation and outcome: ok, or the error's code",
    ["operation", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
SWIFT_REPEATED: Final = Counter(
    "headrace_swift_requests_repeated_total", "Requests that were made again", ["operation"]
)
SETS: Final = Counter(
    "headrace_artifact_sets_total",
    "Sets of artefacts: begun, resumed, finished, found_whole, found_broken, adopted and "
    "checkpoint_adopted (another worker's), moved to another folder, withdrawn",
    ["event"],
)
from_zero(
    SETS,
    (
        *("begun", "resumed", "finished", "found_whole", "found_broken"),
        *("adopted", "checkpoint_adopted", "moved", "withdrawn"),
    ),
)
SETS_REMOVED: Final = Counter(
    "headrace_artifact_sets_removed_total",
    "Sets that were removed because they are no job's result: whole ones, and unfinished ones",
    ["kind"],
)
from_zero(SETS_REMOVED, ("whole", "unfinished"))
CAMERA_MEMORY: Final = Counter(
    "headrace_camera_memory_total",
    "Memories of cameras, by operation (load, save) and outcome: ok, none, unreadable, failed",
    ["operation", "outcome"],
)
from_zero(CAMERA_MEMORY, ("load",), ("ok", "none", "unreadable", "failed"))
from_zero(CAMERA_MEMORY, ("save",), ("ok", "failed"))
