"""What the results service measures beside what every service does."""

from typing import Final

from prometheus_client import Counter, Gauge

from headrace_common.telemetry.metrics import from_zero
from headrace_results.inbox import Source

REPORTS_RECEIVED: Final = Counter(
    "headrace_reports_received_total",
    "Reports taken into the inbox, by way and by whether they were known already",
    ["source", "duplicate"],
)
from_zero(REPORTS_RECEIVED, Source, ("true", "false"))
REPORTS_REFUSED: Final = Counter(
    "headrace_reports_refused_total",
    "Reports that were not taken in: unauthenticated, malformed, or of an unknown job",
    ["source", "reason"],
)
# Those that somebody has to look at; there are rarer ones.
from_zero(REPORTS_REFUSED, Source, ("unauthorized", "unprocessable", "not_found"))
HEARTBEATS: Final = Counter(
    "headrace_analysis_heartbeats_received_total",
    "Signs of life of analyses, which are answered and not kept",
)
REPORTS_APPLIED: Final = Counter(
    "headrace_reports_applied_total",
    "Attempts at applying a report: applied, ignored, shadow (of the copy of a job), failed (tried "
    "again), poisoned (given up)",
    ["outcome"],
)
from_zero(REPORTS_APPLIED, ("applied", "ignored", "shadow", "failed", "poisoned"))
CAMERA_ENTRIES: Final = Counter(
    "headrace_camera_entries_total",
    "Entries of the job stream that were read: new, done (by a worker, before we saw them), "
    "malformed, or refused (logged with the reason)",
    ["outcome"],
)
from_zero(CAMERA_ENTRIES, ("new", "done", "malformed", "refused"))
CAMERA_JOBS_RECOVERED: Final = Counter(
    "headrace_camera_jobs_recovered_total",
    "Camera jobs whose entry was lost, by what the sweep did: requeue or fail",
    ["action"],
)
from_zero(CAMERA_JOBS_RECOVERED, ("requeue", "fail"))
REPORTS_UNAPPLIED: Final = Gauge(
    "headrace_reports_unapplied",
    "Reports in the inbox that wait to be applied, and those that were given up",
    ["state"],
)
STREAM_CLIENTS: Final = Gauge("headrace_sse_clients", "Open event streams")
STREAM_HUB_CONNECTED: Final = Gauge(
    "headrace_sse_hub_connected", "Whether job events come in through Redis (1) or not (0)"
)
STREAM_REPLAYS: Final = Counter(
    "headrace_sse_replays_total", "Times that a stream was served from the database"
)
