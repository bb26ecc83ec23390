"""What the ingest API measures beside what every service does."""

from typing import Final

from prometheus_client import Counter, Gauge

UPLOADS: Final = Counter(
    "headrace_uploads_total",
    "Uploads that ended: accepted, replayed, or the code of the error",
    ["outcome"],
)
UPLOAD_BYTES: Final = Counter(
    "headrace_upload_bytes_total", "Bytes of recordings that clients sent, stored or not"
)
CAMERA_REQUESTS: Final = Counter(
    "headrace_camera_requests_total",
    "Camera jobs that were asked for and accepted: replayed, or the job's status in the answer",
    ["outcome"],
)
UPLOADS_IN_FLIGHT: Final = Gauge("headrace_uploads_in_flight", "Uploads that are being received")
