"""What the ingest API measures beside what every service does."""

from typing import Final

from prometheus_client import Counter, Gauge

from headrace_common.telemetry.metrics import from_zero

UPLOADS: Final = Counter(
    "headrace_uploads_total",
    "Uploads that ended: accepted, replayed, or the code of the error",
    ["outcome"],
)
from_zero(UPLOADS, ("accepted", "replayed", "unavailable", "database_error", "internal_error"))
UPLOAD_BYTES: Final = Counter(
    "headrace_upload_bytes_total", "Bytes of recordings that clients sent, stored or not"
)
CAMERA_REQUESTS: Final = Counter(
    "headrace_camera_requests_total",
    "Camera jobs that were asked for and accepted: replayed, or the job's status in the answer",
    ["outcome"],
)
from_zero(CAMERA_REQUESTS, ("replayed", "queuing", "queued"))
UPLOADS_IN_FLIGHT: Final = Gauge("headrace_uploads_in_flight", "Uploads that are being received")
DIRECT_UPLOADS: Final = Counter(
    "headrace_direct_uploads_total",
    "Direct uploads: begun, accepted, aborted, expired, or the code of the error that refused one",
    ["outcome"],
)
from_zero(DIRECT_UPLOADS, ("begun", "accepted", "replayed", "aborted", "expired", "unavailable"))
ORPHANS: Final = Counter(
    "headrace_storage_orphans_removed_total",
    "Objects and multipart uploads removed from S3: `discarded` after an upload that failed, "
    "`purged` with their job, `leftover` of an upload that was whole, `unknown` to every job",
    ["kind", "reason"],
)
from_zero(ORPHANS, ("object", "multipart"), ("discarded", "purged", "leftover", "unknown"))
ORPHAN_BYTES: Final = Counter(
    "headrace_storage_orphan_bytes_total", "Bytes of objects that the search removed from S3"
)
UNKNOWN: Final = Gauge(
    "headrace_storage_unknown",
    "Objects and multipart uploads that no job knows, and that stay; as of this process's last "
    "search. More than none means that the database lost rows, or that the bucket is shared",
)
STORAGE_SCANNED: Final = Gauge(
    "headrace_storage_scanned_timestamp_seconds",
    "When this process last searched S3 to the end for what belongs to no job; 0: not yet",
)
