"""The loop that replays: letters that are due, one after the other, each in one transaction.

What is to be replayed, and when, is in the rows: a dispatcher that is killed takes nothing with it,
and every replica works on what is due.
"""

import time
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from headrace_common.db import Database, DeadLetter, Job
from headrace_dispatcher.dead.effects import (
    After,
    CannotReplayError,
    Doing,
    Effects,
    ReplayLaterError,
)
from headrace_dispatcher.dead.letter import State
from headrace_dispatcher.dead.metrics import REPLAYED, REPLAYS_FAILED
from headrace_dispatcher.dead.plan import CHANGES_JOB, JobFacts, LetterFacts, Plan, plan_replay

log = structlog.get_logger()

#: Between two looks while nothing is due.
_IDLE_SECONDS: Final = 0.5
#: A replay that met a server that is away.
_PUT_OFF: Final = timedelta(seconds=5)
_PACE_SECONDS: Final = 5.0
#: Advisory lock of whoever keeps the pace: "pace" in hex.
_PACE_LOCK: Final = 0x70616365
# While no dispatcher ran, letters became due that were to go out one by one. They are moved
# together with those that follow, so that the chosen rate holds after the pause too.
_KEEP_PACE: Final = text("""
UPDATE dead_letters l SET due_at = l.due_at + late.by
FROM (
    SELECT replay_id, now() - min(due_at) AS by FROM dead_letters
    WHERE state = 'replaying' GROUP BY replay_id
    HAVING min(due_at) < now() - make_interval(secs => :late) AND max(due_at) > min(due_at)
) AS late
WHERE l.replay_id = late.replay_id AND l.state = 'replaying'
""")


class Replayer:
    """Replays what is due."""

    def __init__(self, database: Database, effects: Effects) -> None:
        """Replay the letters in `database`."""
        self._database = database
        self._effects = effects
        self._paced_at = float("-inf")

    def step(self) -> float:
        """Replay one letter, if one is due; then at once the next."""
        if time.monotonic() - self._paced_at > _PACE_SECONDS:
            self.keep_pace()
            self._paced_at = time.monotonic()
        with self._database.begin() as session:
            letter = self._due(session)
            if letter is None:
                return _IDLE_SECONDS
            after = self._replay(session, letter)
        if after is not None:
            self._finish(after)
        return 0.0

    def keep_pace(self) -> None:
        """Move the rest of every replay that fell behind."""
        with self._database.begin() as session:
            mine = session.scalar(
                text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _PACE_LOCK}
            )
            if mine:
                session.execute(_KEEP_PACE, {"late": _PACE_SECONDS})

    @staticmethod
    def _due(session: Session) -> DeadLetter | None:
        return session.scalar(
            select(DeadLetter)
            .where(DeadLetter.state == State.REPLAYING, DeadLetter.due_at <= func.now())
            .order_by(DeadLetter.due_at, DeadLetter.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )

    def _replay(self, session: Session, letter: DeadLetter) -> After | None:
        """Replay a letter that is locked; what comes of it is noted in the same transaction."""
        try:
            with session.begin_nested():
                job, plan = _planned(session, letter)
                after = self._effects.perform(Doing(session, letter, plan, job))
        except ReplayLaterError as later:
            letter.due_at = func.now() + _PUT_OFF
            letter.outcome = f"put off: {later}"
            _failed(letter, "put_off", later)
            return None
        except CannotReplayError as error:
            _back(letter, str(error))
            _failed(letter, "given_up", error)
            return None
        except Exception as error:  # noqa: BLE001 - it must not hold up those behind it
            _back(letter, type(error).__name__)
            _failed(letter, "given_up", error)
            return None
        letter.state, letter.state_at = State.REPLAYED, func.clock_timestamp()
        letter.outcome = f"{plan.action}: {plan.reason}"
        letter.replays += 1
        letter.due_at = None
        REPLAYED.labels(source=letter.source, action=plan.action).inc()
        log.info("dead.replayed", letter_id=letter.id, action=plan.action, job_id=letter.job_id)
        return after

    @staticmethod
    def _finish(after: After) -> None:
        try:
            after()
        except Exception as error:
            # The row is there, and a sweep tells of it.
            log.warning("dead.replay_not_told", exc_info=error)


def _planned(session: Session, letter: DeadLetter) -> tuple[Job | None, Plan]:
    """Plan by the job as it is; locked where the plan changes it.

    Not locked otherwise: who sends it needs the row.
    """
    facts = LetterFacts.of(letter.kind, letter.job_id, letter.run)
    job = session.get(Job, letter.job_id) if letter.job_id is not None else None
    plan = plan_replay(facts, JobFacts.of_row(job))
    if job is not None and plan.action in CHANGES_JOB:
        session.refresh(job, with_for_update=True)
        if plan_replay(facts, JobFacts.of_row(job)).action != plan.action:
            raise ReplayLaterError("the job is changing")
    return job, plan


def _back(letter: DeadLetter, reason: str) -> None:
    letter.state, letter.state_at = State.DEAD, func.clock_timestamp()
    letter.outcome = f"could not be replayed: {reason}"
    letter.due_at = None


def _failed(letter: DeadLetter, outcome: str, error: Exception) -> None:
    REPLAYS_FAILED.labels(source=letter.source, outcome=outcome).inc()
    log.warning("dead.not_replayed", letter_id=letter.id, outcome=outcome, exc_info=error)
