"""What the scheduler measures. The gauges of the database say the same on every replica."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from headrace_common.contracts.schedules import FiringOrigin, FiringState, MisfirePolicy
from headrace_common.telemetry.metrics import from_zero

#: Seconds. What is fine is below one; what is not may be anything up to an outage.
_DRIFT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)

DRIFT: Final = Histogram(
    "headrace_schedule_drift_seconds",
    "From when a firing was due until it was recorded, by the database's clock",
    buckets=_DRIFT_BUCKETS,
)
FIRINGS: Final = Counter(
    "headrace_firings_total",
    "Firings that this process recorded, as the leader or because a client asked for it",
    ["origin", "state"],
)
from_zero(FIRINGS, FiringOrigin, (FiringState.PENDING, FiringState.SKIPPED))
FIRINGS_SENT: Final = Counter(
    "headrace_firings_sent_total", "Messages of firings, by what became of them", ["outcome"]
)
from_zero(FIRINGS_SENT, ("sent", "already", "deposed", "failed"))
FIRINGS_ENDED: Final = Counter(
    "headrace_firings_ended_total", "Firings that the leader ended after they were sent", ["state"]
)
from_zero(FIRINGS_ENDED, (FiringState.SUCCEEDED, FiringState.FAILED, FiringState.CANCELLED))
MISFIRES: Final = Counter(
    "headrace_schedule_misfires_total",
    "Times that came later than a schedule's grace, by its policy",
    ["policy"],
)
from_zero(MISFIRES, MisfirePolicy)
ELECTIONS: Final = Counter(
    "headrace_scheduler_elections_total", "Terms that this process began as the leader"
)
BROKEN: Final = Counter(
    "headrace_schedules_broken_total",
    "Schedules that were stopped because their row makes no sense",
)
TIMER_FAULTS: Final = Counter(
    "headrace_scheduler_timer_faults_total",
    "What APScheduler missed, refused or failed at: nothing is lost by it, and it should be none",
    ["event"],
)
from_zero(TIMER_FAULTS, ("missed", "max_instances", "error"))
IS_LEADER: Final = Gauge("headrace_scheduler_leader", "1: this process drives the schedules")
EPOCH: Final = Gauge("headrace_scheduler_epoch", "Number of the present term")
HEARTBEAT_AGE: Final = Gauge(
    "headrace_scheduler_heartbeat_age_seconds", "Since the leader's last sign of life"
)
DUE: Final = Gauge("headrace_schedules_due", "Schedules that are due and have not fired")
PENDING: Final = Gauge("headrace_firings_pending", "Firings whose message is not sent")
PENDING_AGE: Final = Gauge(
    "headrace_firings_pending_oldest_seconds", "Since the first of them was due; 0: there is none"
)
OPEN: Final = Gauge("headrace_firings_open", "Firings that have not ended")
