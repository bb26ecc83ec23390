"""Carries out what the guard decides: takes all jobs from a sick side, and asks the other one."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.contracts.analysis import ANALYSIS_PROGRESS
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.db import Database, Job
from headrace_common.repeat import Repeater
from headrace_dispatcher.asking import AskingAgain
from headrace_dispatcher.circuits import DEPENDENCIES, Circuits
from headrace_dispatcher.rollout import rows
from headrace_dispatcher.rollout.current import CurrentRollout, count_rollback
from headrace_dispatcher.rollout.decision import other_side
from headrace_dispatcher.rollout.figures import SideFigures, side_figures
from headrace_dispatcher.rollout.guard import Verdict, judge
from headrace_dispatcher.rollout.state import RolloutState, rolled_back
from headrace_dispatcher.transports import TransportName

log = structlog.get_logger()

#: Who rolls back by itself, in the audit trail.
GUARD: Final = "auto-rollback"

_INTERVAL_SECONDS: Final = 2.0
#: Shortest pause, in times of how long a step took.
_REST: Final = 2.0
#: Advisory lock of whoever judges: "guard" in hex.
_GUARD_LOCK: Final = 0x6775617264
#: Jobs that are asked for again in one step.
_ASK_AT_ONCE: Final = 100


class Guarding:
    """Judges the new side every two seconds; one replica at a time does."""

    def __init__(
        self, database: Database, current: CurrentRollout, asking: AskingAgain, circuits: Circuits
    ) -> None:
        """Work with these; nothing happens before `start`.

        Args:
            database: where the figures are.
            current: told of a roll-back.
            asking: sends jobs again; nobody else may use it.
            circuits: what this process knows to be at fault.
        """
        self._database = database
        self._current = current
        self._asking = asking
        self._circuits = circuits
        self._repeater = Repeater("rollout-guard", self._step)

    def start(self) -> None:
        """Judge in the background."""
        self._repeater.start()

    def stop(self) -> None:
        """End after what is in hand, which takes seconds."""
        self._repeater.ask_to_stop()
        self._repeater.join(timeout_seconds=10)

    def check(self) -> None:
        """Check that the thread lives.

        Raises:
            RuntimeError: it does not.
        """
        self._repeater.check_alive()

    def _step(self) -> float:
        started = time.monotonic()
        state = self._current.state
        if state.new_side is not None and state.auto_rollback:
            self.judge()
        if state.rolled_back is not None:
            self.free()
            self.ask_again()
        # The figures of very many open jobs take their time, and must not take all of it.
        return max(_INTERVAL_SECONDS, _REST * (time.monotonic() - started))

    def judge(self) -> None:
        """Roll back if the new side is sick, unless another replica judges."""
        with self._database.begin() as session:
            if not _is_mine(session):
                return
            state = rows.read(session, self._current.state)
            if state.new_side is None or not state.auto_rollback:
                return
            side = state.new_side
            new, old = both_sides(session, state, side)
            seconds = fault_seconds(self._circuits, state, side)
            verdict = judge(side, new, old, state.policy, fault_seconds=seconds)
            if not verdict.sick:
                return
            after = roll_back(session, state, side, actor=GUARD, reason=verdict.reason or "sick")
            _note_figures(session, side, new, old)
        self._current.know(after)
        count_rollback(side, by="guard")
        log.error("rollout.rolled_back", side=side, reason=verdict.reason)

    def ask_again(self) -> int:
        """Ask the healthy side for jobs that the other one has and does not answer.

        Returns:
            How many it took.
        """
        with self._database.begin() as session:
            if not _is_mine(session):
                return 0
            state = rows.read(session, self._current.state)
            self._current.know(state)
            jobs = _unanswered(session, state)
            return len(self._asking.ask(jobs)) if jobs else 0

    def free(self) -> int:
        """Free more of the jobs that wait for the side which was rolled back.

        Returns:
            How many.
        """
        side = self._current.state.rolled_back
        if side is None:
            return 0
        with self._database.begin() as session:
            return rows.release(session, side, DEPENDENCIES[side]) if _is_mine(session) else 0


def both_sides(
    session: Session, state: RolloutState, side: TransportName, *, since: datetime | None = None
) -> tuple[SideFigures, SideFigures]:
    """Return the figures of `side` and of the other one, of the time that the policy looks at."""
    policy = state.policy
    if since is None:
        since = datetime.now(UTC) - timedelta(seconds=policy.window_seconds)
        since = max(since, state.changed_at) if state.changed_at else since
    figures = [
        side_figures(
            session,
            name,
            since=since,
            overdue_seconds=policy.overdue_seconds,
            blocked_seconds=policy.blocked_seconds,
        )
        for name in (side, other_side(side))
    ]
    return figures[0], figures[1]


def fault_seconds(circuits: Circuits, state: RolloutState, side: TransportName) -> float:
    """Return for how long `side` alone has been at fault, since the last change."""
    since = state.changed_at
    most = (datetime.now(UTC) - since).total_seconds() if since else float("inf")
    return min(circuits.fault_seconds(side, other=other_side(side)), max(most, 0.0))


def verdict_of(session: Session, state: RolloutState, circuits: Circuits) -> Verdict | None:
    """Return what the guard thinks now; None while nothing is tried."""
    if state.new_side is None:
        return None
    side = state.new_side
    new, old = both_sides(session, state, side)
    seconds = fault_seconds(circuits, state, side)
    return judge(side, new, old, state.policy, fault_seconds=seconds)


def roll_back(
    session: Session, state: RolloutState, side: TransportName, *, actor: str, reason: str
) -> RolloutState:
    """Take all jobs from `side`, in the caller's transaction; those that it has not begin anew."""
    action = "rollout.auto_rollback" if actor == GUARD else "rollout.rollback"
    after = rows.write(session, state, rolled_back(state, side, reason), actor=actor, action=action)
    freed = rows.release(session, side, DEPENDENCIES[side])
    log.warning("rollout.released", side=side, jobs=freed)
    return after


def _is_mine(session: Session) -> bool:
    query = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(session.scalar(query, {"key": _GUARD_LOCK}))


def _note_figures(
    session: Session, side: TransportName, new: SideFigures, old: SideFigures
) -> None:
    """Keep what the decision stood on: the jobs that move to the other side count there later."""
    audit.record(
        session,
        actor=GUARD,
        action="rollout.figures",
        target=rows.AUDIT_TARGET,
        **{side.value: new.model_dump(), other_side(side).value: old.model_dump()},
    )


def _unanswered(session: Session, state: RolloutState) -> list[Job]:
    """Return jobs that a side has which was rolled back, and of which nothing is heard."""
    if state.rolled_back is None or state.changed_at is None:
        return []
    patience = datetime.now(UTC) - timedelta(seconds=state.policy.overdue_seconds)
    has_begun = Job.meta[ANALYSIS_PROGRESS].astext.is_not(None)
    return list(
        session.scalars(
            select(Job)
            .where(
                Job.transport == state.rolled_back,
                Job.finished_at.is_(None),
                Job.kind == JobKind.AUDIO_ANALYSIS,
                Job.status == JobStatus.QUEUED_FOR_ANALYSIS,
                Job.stage_entered_at < patience,
                or_(~has_begun, Job.updated_at < patience),
            )
            .order_by(Job.stage_entered_at, Job.id)
            .limit(_ASK_AT_ONCE)
        )
    )
