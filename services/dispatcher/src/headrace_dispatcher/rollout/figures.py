"""Both sides of a roll-out side by side, in figures from the tables."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_dispatcher.circuits import DEPENDENCIES
from headrace_dispatcher.rollout.statistics import Share
from headrace_dispatcher.transports import TransportName

# Both parts of the OR are ranges of ix_jobs_transport_finished_at. A job belongs to the time
# in which it was sent, or in which it ended without having been.
_JOBS: Final = text("""
WITH side AS (
    SELECT status, sent_at, finished_at,
        coalesce(sent_at, finished_at) >= :since AS counts,
        extract(epoch FROM coalesce(finished_at, now()) - sent_at) AS seconds
    FROM jobs
    WHERE transport = :side AND (finished_at IS NULL OR finished_at >= :since)
)
SELECT
    count(*) FILTER (
        WHERE counts AND (sent_at IS NOT NULL OR status = 'completed')  -- answered before noted
    ) AS sent,
    count(*) FILTER (WHERE counts AND status = 'completed') AS completed,
    count(*) FILTER (WHERE counts AND status = 'failed') AS failed,
    count(*) FILTER (WHERE counts AND status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE counts AND finished_at IS NULL) AS unanswered,
    count(*) FILTER (WHERE counts AND seconds > :overdue AND status <> 'cancelled') AS overdue,
    count(*) FILTER (WHERE counts AND seconds > :overdue AND finished_at IS NULL)
        AS overdue_unanswered,
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds)
        FILTER (WHERE counts AND status IN ('completed', 'failed')) AS latency,
    max(seconds) FILTER (WHERE finished_at IS NULL AND sent_at IS NOT NULL) AS oldest
FROM side
""")
_ATTEMPTS: Final = text("""
SELECT coalesce(sum(taken), 0) AS taken, coalesce(sum(refused), 0) AS refused
FROM transport_outcomes WHERE transport = :side AND slice_at >= :since
""")
_WAITING: Final = text("""
SELECT count(*) AS waiting,
    count(*) FILTER (
        WHERE greatest(queued_at, :since) < now() - make_interval(secs => :blocked)
    ) AS blocked
FROM jobs
WHERE waiting_for = :dependency AND retry_at IS NOT NULL AND finished_at IS NULL
    AND kind = 'audio_analysis'
""")
_SHADOW: Final = text("""
SELECT count(*) FILTER (WHERE sent_at IS NOT NULL) AS sent,
    count(*) FILTER (WHERE send_error IS NOT NULL) AS not_sent,
    count(*) FILTER (WHERE answered_at IS NOT NULL) AS answered,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE same) AS same,
    count(*) FILTER (WHERE NOT same) AS different
FROM shadow_runs WHERE created_at >= :since
""")
_DIFFERENT: Final = text("""
SELECT job_id FROM shadow_runs WHERE created_at >= :since AND NOT same
ORDER BY answered_at DESC LIMIT :limit
""")
_LISTED_DIFFERENT: Final = 10


class SideFigures(BaseModel):
    """One side, over a stretch of time. Jobs count by when they were sent."""

    sent: int = Field(description="Jobs that the side took")
    completed: int
    failed: int = Field(description="With those that it never took")
    cancelled: int
    unanswered: int = Field(description="Of those sent, now")
    overdue: int = Field(description="That took, or take, longer than `overdue_seconds`")
    overdue_unanswered: int = Field(description="Of these, the ones without an end")
    success_rate: float | None = Field(description="Completed of all that ended; null of none")
    success_rate_low: float | None = Field(description="Wilson's 95 per cent interval")
    success_rate_high: float | None
    attempts_taken: int
    attempts_refused: int
    latency_p50_seconds: float | None = Field(description="From being sent to the end")
    latency_p95_seconds: float | None
    latency_p99_seconds: float | None
    waiting_for_dependency: int = Field(description="Jobs that wait because it is at fault, now")
    blocked: int = Field(description="Of these, for longer than `blocked_seconds`")
    oldest_unanswered_seconds: float | None

    @property
    def failures(self) -> Share:
        """Failed of all that ended."""
        return Share(self.failed, self.completed + self.failed)

    @property
    def refusals(self) -> Share:
        """Attempts that were refused, and jobs that wait without one being made, of all."""
        bad = self.attempts_refused + self.blocked
        return Share(bad, bad + self.attempts_taken)

    @property
    def delays(self) -> Share:
        """Overdue jobs of all whose end was due: those that ended, and those that should have."""
        return Share(self.overdue, self.completed + self.failed + self.overdue_unanswered)


class ShadowFigures(BaseModel):
    """What became of the copies."""

    sent: int
    not_sent: int = Field(description="The other side did not take them")
    answered: int
    failed: int = Field(description="Answers that say so")
    same: int = Field(description="Answers that equal the job's own")
    different: int
    last_different: list[str] = Field(description="Ids of the jobs, newest first")


def side_figures(
    session: Session,
    side: TransportName,
    *,
    since: datetime,
    overdue_seconds: float,
    blocked_seconds: float,
) -> SideFigures:
    """Count what became of the jobs of a side since a point in time."""
    asked: dict[str, Any] = {"side": side, "since": since}
    jobs = session.execute(_JOBS, {**asked, "overdue": overdue_seconds}).one()
    attempts = session.execute(_ATTEMPTS, asked).one()
    waiting = session.execute(
        _WAITING,
        {"dependency": DEPENDENCIES[side], "since": since, "blocked": blocked_seconds},
    ).one()
    latency = jobs.latency or [None, None, None]
    ended = Share(jobs.completed, jobs.completed + jobs.failed)
    low, high = ended.interval() if ended.total else (None, None)
    return SideFigures(
        sent=jobs.sent,
        completed=jobs.completed,
        failed=jobs.failed,
        cancelled=jobs.cancelled,
        unanswered=jobs.unanswered,
        overdue=jobs.overdue,
        overdue_unanswered=jobs.overdue_unanswered,
        success_rate=ended.value if ended.total else None,
        success_rate_low=low,
        success_rate_high=high,
        attempts_taken=attempts.taken,
        attempts_refused=attempts.refused,
        latency_p50_seconds=latency[0],
        latency_p95_seconds=latency[1],
        latency_p99_seconds=latency[2],
        waiting_for_dependency=waiting.waiting,
        blocked=waiting.blocked,
        oldest_unanswered_seconds=jobs.oldest,
    )


def shadow_figures(session: Session, *, since: datetime) -> ShadowFigures:
    """Count what became of copies since a point in time."""
    counts = session.execute(_SHADOW, {"since": since}).mappings().one()
    different = session.scalars(_DIFFERENT, {"since": since, "limit": _LISTED_DIFFERENT})
    return ShadowFigures(**counts, last_different=list(different))
