"""What the stream consumer measures."""

import threading
from dataclasses import asdict, dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from headrace_common.telemetry.metrics import from_zero

PROCESSED: Final = Counter(
    "headrace_preprocessor_jobs_processed_total", "Jobs that were done and acknowledged"
)
FAILED: Final = Counter(
    "headrace_preprocessor_attempts_failed_total",
    "Attempts that failed, by the error's code; each was retried or dead-lettered",
    ["code"],
)
RETRIED: Final = Counter(
    "headrace_preprocessor_jobs_retried_total", "Entries put aside for another attempt"
)
DEAD_LETTERED: Final = Counter(
    "headrace_preprocessor_dead_letters_total", "Entries given up, by the reason's code", ["code"]
)
HANDED_BACK: Final = Counter(
    "headrace_preprocessor_handed_back_total", "Entries given back untouched for others to take"
)
DUPLICATES: Final = Counter(
    "headrace_preprocessor_duplicates_total",
    "Entries acknowledged without work, because another entry of their job was worked on",
)
CANCELLED: Final = Counter(
    "headrace_preprocessor_jobs_cancelled_total",
    "Entries acknowledged without a result, because their job was cancelled",
)
DELIVERIES: Final = Counter(
    "headrace_preprocessor_deliveries_total",
    "Entries handed to this process: new, taken over from a silent consumer, or its own again",
    ["kind"],
)
from_zero(DELIVERIES, ("new", "taken_over", "own"))
RENEWALS: Final = Counter(
    "headrace_preprocessor_lease_renewals_total",
    "Renewals of leases: renewed, failed (no answer), lost (another has the entry)",
    ["outcome"],
)
from_zero(RENEWALS, ("renewed", "failed", "lost"))
SETTLEMENTS_LOST: Final = Counter(
    "headrace_preprocessor_settlements_lost_total",
    "Ends of an attempt that changed nothing because another had the entry",
)
REPORTS_DROPPED: Final = Counter(
    "headrace_preprocessor_reports_dropped_total",
    "Reports on progress that were left out: nobody reads them, or Redis was away",
)
DEPENDENCY_HOLDING: Final = Gauge(
    "headrace_preprocessor_dependency_holding",
    "Whether jobs wait because something that each of them needs is at fault (1) or not (0)",
)
DEPENDENCY_FAULTS: Final = Counter(
    "headrace_preprocessor_dependency_faults_total",
    "Times that jobs began to wait, or went on waiting, for what each of them needs",
    ["code"],
)
RECONNECTS: Final = Counter(
    "headrace_preprocessor_stream_errors_total", "Times that the reader had to begin anew"
)
JOB_SECONDS: Final = Histogram(
    "headrace_preprocessor_job_duration_seconds",
    "Time from the start of an attempt to its end",
    ["outcome"],
    buckets=(0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1_200, 3_600),
)
SLOTS_TARGET: Final = Gauge("headrace_preprocessor_slots", "Jobs that may run at a time")
SLOTS_BUSY: Final = Gauge("headrace_preprocessor_slots_busy", "Jobs that run")
PAUSED: Final = Gauge("headrace_preprocessor_paused", "Whether nothing new is taken (1)")
PENDING: Final = Gauge(
    "headrace_preprocessor_stream_pending", "Entries handed out and not acknowledged, whole group"
)
LAG: Final = Gauge(
    "headrace_preprocessor_stream_lag",
    "Entries not yet handed out to the group; NaN where the server does not know",
)
OLDEST_PENDING_SECONDS: Final = Gauge(
    "headrace_preprocessor_oldest_pending_age_seconds",
    "Age of the oldest entry that is not acknowledged; 0 if none",
)
DELAYED: Final = Gauge(
    "headrace_preprocessor_delayed_entries", "Entries that wait for their next attempt"
)
DEAD_LETTERS: Final = Gauge(
    "headrace_preprocessor_dead_letter_stream_length", "Entries in the dead letters"
)
REPORTS_WAITING: Final = Gauge(
    "headrace_preprocessor_reports_stream_length", "Reports that are not trimmed yet"
)


@dataclass(frozen=True)
class Counts:
    """What happened in this process since it began (V7).

    Attributes:
        processed: jobs done.
        failed: attempts that failed; each is in `retried` or `dlq` too.
        retried: entries put aside for another attempt.
        dlq: entries given up.
    """

    processed: int = 0
    failed: int = 0
    retried: int = 0
    dlq: int = 0


class Tally:
    """Counts here and for Prometheus; read from any thread."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._lock = threading.Lock()
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return self._counts

    def processed(self) -> None:
        """A job was done."""
        PROCESSED.inc()
        self._add(processed=1)

    def retried(self, code: str) -> None:
        """An attempt failed and is repeated."""
        FAILED.labels(code=code).inc()
        RETRIED.inc()
        self._add(failed=1, retried=1)

    def dead_lettered(self, code: str) -> None:
        """An attempt failed, and the entry is given up."""
        FAILED.labels(code=code).inc()
        DEAD_LETTERED.labels(code=code).inc()
        self._add(failed=1, dlq=1)

    def _add(self, **more: int) -> None:
        with self._lock:
            counts = asdict(self._counts)
            self._counts = Counts(**{n: counts[n] + more.get(n, 0) for n in counts})
