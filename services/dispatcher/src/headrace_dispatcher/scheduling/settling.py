"""Ending firings whose job has ended, and finding those that nobody works on."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, Final

import structlog
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from headrace_common.broker import QueueUnavailableError, lost_messages
from headrace_common.contracts.schedules import FiringState, target_contracts
from headrace_dispatcher.scheduling.metrics import FIRINGS_ENDED
from headrace_dispatcher.scheduling.settings import SchedulerSettings

log = structlog.get_logger()

#: How often firings are looked for that nobody works on.
_LOOK_SECONDS: Final = 5.0
#: Firings whose messages are looked for at once.
_BATCH: Final = 500
#: Most rows that one statement changes: it must end well before a leader counts as silent.
_MOST_ROWS: Final = 5_000
#: Most times that a firing is sent whose message is lost each time.
_MOST_SENDINGS: Final = 10
#: Most times that house-keeping is begun which does not end.
_MOST_BEGINNINGS: Final = 3

# None of these waits for a row: whoever has it locked may be frozen, and its leader has others to
# look after. What is locked now is free at a later look.
_END_WITH_JOB: Final = text("""
WITH ended AS (
    SELECT firings.id, jobs.status, jobs.error_code, jobs.error_message
    FROM firings JOIN jobs ON jobs.id = firings.job_id
    WHERE firings.finished_at IS NULL AND firings.job_id IS NOT NULL
        AND firings.state = 'running' AND jobs.run >= coalesce(firings.job_run, 1)
        AND jobs.finished_at IS NOT NULL
    LIMIT :rows FOR UPDATE OF firings SKIP LOCKED
)
UPDATE firings SET finished_at = clock_timestamp(),
    state = CASE ended.status WHEN 'completed' THEN 'succeeded' WHEN 'cancelled' THEN 'cancelled'
        ELSE 'failed' END,
    reason = CASE ended.status WHEN 'failed' THEN left(concat_ws(': ', ended.error_code,
        ended.error_message), 500) END
FROM ended WHERE firings.id = ended.id
RETURNING firings.state
""")
_END_WITHOUT_JOB: Final = text("""
WITH free AS (
    SELECT id FROM firings
    WHERE finished_at IS NULL AND job_id IS NOT NULL AND state = 'running'
        AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = firings.job_id)
    LIMIT :rows FOR UPDATE SKIP LOCKED
)
UPDATE firings SET finished_at = clock_timestamp(), state = 'failed', reason = 'job_gone'
FROM free WHERE firings.id = free.id
RETURNING state
""")
_SAY_UNKNOWN: Final = text("""
WITH free AS (
    SELECT id FROM firings
    WHERE state = 'pending' AND reason IS DISTINCT FROM 'target_unknown' AND target <> ALL(:known)
    LIMIT :rows FOR UPDATE SKIP LOCKED
)
UPDATE firings SET reason = 'target_unknown' FROM free WHERE firings.id = free.id
""")
# What was sent by a version that knew the target is nobody's either: nothing looks for its message.
_END_UNKNOWN: Final = text("""
WITH free AS (
    SELECT id FROM firings
    WHERE finished_at IS NULL AND target <> ALL(:known)
        AND CASE state WHEN 'pending' THEN fired_at WHEN 'sent' THEN sent_at END
            < clock_timestamp() - make_interval(secs => :timeout)
    LIMIT :rows FOR UPDATE SKIP LOCKED
)
UPDATE firings SET finished_at = clock_timestamp(), state = 'failed', reason = 'target_unknown'
FROM free WHERE firings.id = free.id
RETURNING state
""")
_BEGIN_ANEW: Final = text("""
WITH free AS (
    SELECT id FROM firings
    WHERE finished_at IS NULL AND state = 'running' AND job_id IS NULL
        AND started_at < clock_timestamp() - make_interval(secs => :timeout)
    LIMIT :rows FOR UPDATE SKIP LOCKED
)
UPDATE firings SET reason = 'timed_out',
    state = CASE WHEN tries < :most THEN 'pending' ELSE 'failed' END,
    finished_at = CASE WHEN tries < :most THEN NULL ELSE clock_timestamp() END
FROM free WHERE firings.id = free.id
RETURNING state
""")
_NOT_TAKEN: Final = text("""
SELECT id, target, message_id FROM firings
WHERE finished_at IS NULL AND state = 'sent'
    AND sent_at < clock_timestamp() - make_interval(secs => :lost_after) AND id > :after
ORDER BY id LIMIT :most
""")
_SEND_ANEW: Final = text("""
WITH free AS (
    SELECT id FROM firings
    WHERE message_id = ANY(:lost) AND id = ANY(:ids) AND state = 'sent'
    LIMIT :rows FOR UPDATE SKIP LOCKED
)
UPDATE firings SET reason = 'lost',
    state = CASE WHEN tries < :most THEN 'pending' ELSE 'failed' END,
    finished_at = CASE WHEN tries < :most THEN NULL ELSE clock_timestamp() END
FROM free WHERE firings.id = free.id
RETURNING state
""")


@dataclass(frozen=True)
class _Sent:
    id: int
    queue: str
    message_id: str


class Settling:
    """Looks after open firings in one term. For the leader's thread."""

    def __init__(self, broker: RedisBroker, errands: Executor, settings: SchedulerSettings) -> None:
        """Make it.

        Args:
            broker: where messages are looked for.
            errands: looks for them, beside the leader's thread.
            settings: how long things may take.
        """
        self._broker = broker
        self._errands = errands
        self._settings = settings
        self._look_at = time.monotonic()
        self._sought: list[_Sent] = []
        self._sought_to = 0
        self._lost: Future[list[str]] | None = None

    def step(self, session: Session) -> None:
        """Settle what there is to settle, in a transaction of the leader."""
        _end(session, _END_WITH_JOB)
        self._note_lost(session)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + min(
                _LOOK_SECONDS, self._settings.firing_lost_after_seconds
            )
            _end(session, _END_WITHOUT_JOB)
            known, timeout = list(target_contracts()), self._settings.firing_timeout_seconds
            session.execute(_SAY_UNKNOWN, {"known": known, "rows": _MOST_ROWS})
            _end(session, _END_UNKNOWN, known=known, timeout=timeout)
            _end(session, _BEGIN_ANEW, most=_MOST_BEGINNINGS, timeout=timeout)
            self._seek(session)

    def _seek(self, session: Session) -> None:
        if self._lost is not None:
            return
        contracts = target_contracts()
        asked = {
            "lost_after": self._settings.firing_lost_after_seconds,
            "after": self._sought_to,
            "most": _BATCH,
        }
        rows = session.execute(_NOT_TAKEN, asked).all()
        # Where the queue is long, each has its turn.
        self._sought_to = rows[-1].id if len(rows) == _BATCH else 0
        self._sought = [
            _Sent(row.id, contracts[row.target].queue, row.message_id)
            for row in rows
            if row.target in contracts
        ]
        if self._sought:
            self._lost = self._errands.submit(self._look_for, self._sought)

    def _look_for(self, sought: Sequence[_Sent]) -> list[str]:
        lost: list[str] = []
        for queue in sorted({sent.queue for sent in sought}):
            ids = [sent.message_id for sent in sought if sent.queue == queue]
            lost += lost_messages(self._broker, queue, ids)
        return lost

    def _note_lost(self, session: Session) -> None:
        if self._lost is None or not self._lost.done():
            return
        future, self._lost = self._lost, None
        try:
            lost = future.result()
        except QueueUnavailableError as error:
            log.info("scheduler.messages_not_looked_for", error=str(error))
            return
        if lost:
            log.warning("scheduler.messages_lost", messages=len(lost))
            ids = [sent.id for sent in self._sought]
            _end(session, _SEND_ANEW, most=_MOST_SENDINGS, ids=ids, lost=lost)


def _end(session: Session, statement: TextClause, **asked: Any) -> None:
    """Run one of the statements above, and count what has ended with it."""
    for (state,) in session.execute(statement, {"rows": _MOST_ROWS} | asked):
        if state != FiringState.PENDING:
            FIRINGS_ENDED.labels(state=state).inc()
