"""How the schedules do as a whole, from the database alone: the same from every replica."""

from datetime import datetime
from typing import Final

import structlog
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_common.db import Database
from headrace_dispatcher.gate import DATABASE_AWAY
from headrace_dispatcher.scheduling.metrics import (
    DUE,
    EPOCH,
    HEARTBEAT_AGE,
    OPEN,
    PENDING,
    PENDING_AGE,
)

log = structlog.get_logger()

_PAUSE_SECONDS: Final = 10.0
#: Drift is told of the firings of so many seconds.
DRIFT_SECONDS: Final = 300

_LEADER: Final = text("""
SELECT epoch, holder, elected_at, heartbeat_at,
    extract(epoch FROM clock_timestamp() - heartbeat_at) AS age
FROM scheduler_leader WHERE id = 1
""")
_BACKLOG: Final = text("""
SELECT (SELECT count(*) FROM schedules WHERE next_due_at <= now() AND NOT paused) AS due,
    count(*) FILTER (WHERE state = 'pending') AS pending,
    extract(epoch FROM now() - min(due_at) FILTER (WHERE state = 'pending')) AS oldest,
    count(*) FILTER (WHERE state = 'sent') AS sent,
    count(*) FILTER (WHERE state = 'running') AS running
FROM firings WHERE finished_at IS NULL
""")
# By the index on nominal times there would be one look for each schedule; rows of the last minutes
# are the last of the table, and their ids count up.
_DRIFT: Final = text("""
SELECT count(*) AS firings, max(drift) AS most,
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY drift) AS percentiles
FROM (
    SELECT extract(epoch FROM fired_at - due_at)::float8 AS drift, origin, fired_at
    FROM firings ORDER BY id DESC LIMIT :most
) AS latest
WHERE origin = 'schedule' AND fired_at > now() - make_interval(secs => :seconds)
""")
#: Most firings that drift is told of.
_MOST_FIRINGS: Final = 20_000


class LeaderState(BaseModel):
    """Who drives the schedules."""

    epoch: int = Field(description="Counts terms", examples=[7])
    holder: str = Field(description="Host and process id", examples=["dispatcher-0:1"])
    elected_at: datetime
    heartbeat_at: datetime
    heartbeat_age_seconds: float = Field(description="By the database's clock", examples=[0.8])


class BacklogState(BaseModel):
    """What is late, or has not ended."""

    due: int = Field(description="Schedules that are due and have not fired")
    pending: int = Field(description="Firings whose message is not sent")
    pending_oldest_seconds: float = Field(description="Since the first of them was due")
    sent: int = Field(description="Firings whose message was not taken up yet")
    running: int = Field(description="Firings that are being performed, or whose job is open")


class DriftState(BaseModel):
    """From when firings were due until they were recorded, in seconds, by the database's clock."""

    firings: int = Field(description="That it is told of: the latest of the last five minutes")
    p50: float | None = Field(examples=[0.004])
    p95: float | None = Field(examples=[0.012])
    p99: float | None = Field(examples=[0.03])
    max: float | None = Field(examples=[0.2])


class SchedulerState(BaseModel):
    """How the schedules do."""

    leader: LeaderState | None = Field(description="The last that was elected")
    backlog: BacklogState
    drift: DriftState


def scheduler_state(session: Session) -> SchedulerState:
    """Read it all."""
    return SchedulerState(leader=_leader(session), backlog=_backlog(session), drift=_drift(session))


class Measuring:
    """Sets the gauges that are read from the database."""

    def __init__(self, database: Database) -> None:
        """Measure what is in `database`."""
        self._database = database

    def step(self) -> float:
        """Measure, and return the seconds until the next time; keep the figures on an error."""
        try:
            with self._database.begin() as session:
                leader, backlog = _leader(session), _backlog(session)
        except DATABASE_AWAY as error:
            log.info("scheduler.not_measured", error=type(error).__name__)
            return _PAUSE_SECONDS
        if leader is not None:
            EPOCH.set(leader.epoch)
            HEARTBEAT_AGE.set(leader.heartbeat_age_seconds)
        DUE.set(backlog.due)
        PENDING.set(backlog.pending)
        PENDING_AGE.set(backlog.pending_oldest_seconds)
        OPEN.set(backlog.pending + backlog.sent + backlog.running)
        return _PAUSE_SECONDS


def _leader(session: Session) -> LeaderState | None:
    row = session.execute(_LEADER).one_or_none()
    if row is None:
        return None
    return LeaderState(
        epoch=row.epoch,
        holder=row.holder,
        elected_at=row.elected_at,
        heartbeat_at=row.heartbeat_at,
        heartbeat_age_seconds=round(float(row.age), 3),
    )


def _backlog(session: Session) -> BacklogState:
    row = session.execute(_BACKLOG).one()
    return BacklogState(
        due=row.due,
        pending=row.pending,
        pending_oldest_seconds=max(float(row.oldest or 0), 0.0),
        sent=row.sent,
        running=row.running,
    )


def _drift(session: Session) -> DriftState:
    row = session.execute(_DRIFT, {"seconds": DRIFT_SECONDS, "most": _MOST_FIRINGS}).one()
    p50, p95, p99 = row.percentiles or (None, None, None)
    return DriftState(firings=row.firings, p50=p50, p95=p95, p99=p99, max=row.most)
