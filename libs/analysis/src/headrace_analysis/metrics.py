"""What an analysis server measures."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from headrace_analysis.outcome import ReportOutcome, StopReason
from headrace_common.contracts import ReportStatus
from headrace_common.telemetry.metrics import from_zero

TASKS: Final = Counter(
    "headrace_analysis_tasks_total",
    "Attempts at a task, by how they ended",
    ["transport", "outcome"],
)
from_zero(
    TASKS,
    ("sqs", "http"),
    (
        *("completed", "failed", "retried", "exhausted", "malformed", "runner_failed"),
        *(reason.value for reason in StopReason),
    ),
)
TASK_SECONDS: Final = Histogram(
    "headrace_analysis_task_duration_seconds",
    "Time from the start of an attempt to the settled message",
    ["transport"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900, 1800),
)
RECEIVED: Final = Counter(
    "headrace_analysis_messages_received_total", "Messages received", ["lane"]
)
DUPLICATES: Final = Counter(
    "headrace_analysis_duplicate_deliveries_total",
    "Messages delivered again while or after run here",
)
STOPPED: Final = Counter(
    "headrace_analysis_tasks_stopped_total",
    "Tasks that the receiver of their reports told to stop, before they began or while they ran",
)
LEASES_LOST: Final = Counter(
    "headrace_analysis_leases_lost_total", "Messages that became someone else's while run here"
)
REPORTS: Final = Counter(
    "headrace_analysis_reports_total", "Attempts to deliver a report", ["kind", "outcome"]
)
from_zero(REPORTS, ("heartbeat", *ReportStatus), ReportOutcome)
SLOTS: Final = Gauge("headrace_analysis_slots", "Tasks that can run at a time")
SLOTS_BUSY: Final = Gauge("headrace_analysis_slots_busy", "Tasks that run")
HTTP_REFUSED: Final = Counter(
    "headrace_analysis_http_refused_total", "Jobs over HTTP refused because all is full"
)
