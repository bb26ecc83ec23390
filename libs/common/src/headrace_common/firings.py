"""Performing what a schedule fired: from the message to the word of what came of it.

The row decides, not the message: one that comes twice, late or after the firing has ended finds
that there is nothing to perform. What begins a job does so in the transaction that makes its
firing `running`, so that it begins one job, whoever dies when. House-keeping runs outside of any
transaction and says afterwards what came of it; it is safe to run twice, and beside itself.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import dramatiq
import structlog
from dramatiq import Broker
from dramatiq.middleware import CurrentMessage
from prometheus_client import Counter
from pydantic import JsonValue
from sqlalchemy import func, select, update
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from headrace_common.contracts.schedules import FiringState, PerformFiring, TargetContract
from headrace_common.db.engine import Database
from headrace_common.db.models import Firing
from headrace_common.errors import HeadraceError
from headrace_common.telemetry.metrics import from_zero
from headrace_common.telemetry.secrets import without_secrets
from headrace_common.telemetry.trace import current_trace

log = structlog.get_logger()

#: What a piece of house-keeping does; returns what it did, in numbers mostly.
Chore = Callable[[], Mapping[str, JsonValue]]
#: Takes the id of a firing, and whether its message is tried again because a try of it failed.
#: Returns the state that the firing is in now; None where it was not to be performed.
Perform = Callable[[int, bool], FiringState | None]

#: The database is away, too busy, or ended the transaction of one of two that waited for another.
_AWAY: Final = (OperationalError, InterfaceError, PoolTimeoutError)
#: Longest that a message waits for its next try while the database is away, in milliseconds.
_LONGEST_BACKOFF_MS: Final = 10_000
#: Of the time after which a worker counts as dead: its last sign of life may be older than what it
#: took up after that.
_SURE_OF_DEATH: Final = 0.8
#: Longest reason that is kept.
_MAX_REASON: Final = 500

#: What a performer may come to: `running` where a job has begun.
_ENDS: Final = (
    FiringState.RUNNING,
    FiringState.SUCCEEDED,
    FiringState.SKIPPED,
    FiringState.FAILED,
)
#: And where there was nothing to perform.
_DROPPED: Final = "dropped"

_PERFORMED: Final = Counter(
    "headrace_firings_performed_total",
    "Messages of firings that were worked off, by what came of the firing",
    ["target", "outcome"],
)


class Firings:
    """The firings, as those who perform them see them. Safe to use from any thread."""

    def __init__(self, database: Database, *, dead_after_seconds: float) -> None:
        """Make it.

        Args:
            database: where the firings are.
            dead_after_seconds: a worker that was silent for so long is dead, for Dramatiq, which
                gives its messages to others then.
        """
        self._database = database
        self._dead_after = _SURE_OF_DEATH * timedelta(seconds=dead_after_seconds)

    def begin_in(self, session: Session, firing_id: int, *, retried: bool = False) -> Firing | None:
        """Take up a firing in a transaction of the caller's; its row is locked until that ends.

        Args:
            session: of that transaction.
            firing_id: from the message.
            retried: whether the message comes again because the last try failed, so that nobody
                performs the firing any more that this message took up.

        Returns:
            The firing, `running` by now; None where it is not to be performed: it is gone, has
            ended, has begun its job, or another has it in hand.
        """
        found = session.execute(
            select(Firing, func.clock_timestamp())
            .where(Firing.id == firing_id)
            .with_for_update(of=Firing)
        ).one_or_none()
        if found is None:
            log.info("firing.gone")
            return None
        firing: Firing = found[0]
        now: datetime = found[1]
        if not self._may_begin(firing, running_for=now - (firing.started_at or now), told=retried):
            log.info("firing.not_to_be_performed", state=firing.state)
            return None
        firing.state, firing.reason, firing.started_at = FiringState.RUNNING, None, now
        firing.trace = firing.trace or current_trace()
        session.flush()
        return firing

    def begin(self, firing_id: int, *, retried: bool = False) -> bool:
        """Take up a firing; see `begin_in`."""
        with self._database.begin() as session:
            return self.begin_in(session, firing_id, retried=retried) is not None

    def finish(
        self,
        firing_id: int,
        *,
        state: FiringState,
        reason: str | None = None,
        result: Mapping[str, JsonValue] | None = None,
    ) -> bool:
        """End a firing that runs.

        Args:
            firing_id: of a firing that was taken up.
            state: a final one.
            reason: one readable line, where it did not succeed.
            result: what it did.

        Returns:
            Whether it runs no more because of this; not where somebody else has ended it.
        """
        with self._database.begin() as session:
            return self.finish_in(session, firing_id, state=state, reason=reason, result=result)

    def finish_in(
        self,
        session: Session,
        firing_id: int,
        *,
        state: FiringState,
        reason: str | None = None,
        result: Mapping[str, JsonValue] | None = None,
    ) -> bool:
        """End a firing that runs, in a transaction of the caller's; see `finish`."""
        ended = session.scalar(
            update(Firing)
            .where(Firing.id == firing_id, Firing.state == FiringState.RUNNING)
            .values(
                state=state,
                reason=reason and reason[:_MAX_REASON],
                result=result,
                finished_at=func.clock_timestamp(),
            )
            .returning(Firing.id)
        )
        return ended is not None

    def _may_begin(self, firing: Firing, *, running_for: timedelta, told: bool) -> bool:
        if firing.state != FiringState.RUNNING:
            # `pending`: it was sent, which its sender has not noted yet.
            return firing.state in {FiringState.PENDING, FiringState.SENT}
        # What has begun a job ends with it. Else nobody is told of a firing that is in hand, but
        # for one whose worker is dead: its message goes to another.
        return firing.job_id is None and (told or running_for > self._dead_after)


def declare_chores(
    broker: Broker, firings: Firings, chores: Mapping[TargetContract, Chore]
) -> set[str]:
    """Declare the actors of house-keeping on `broker`.

    A chore that raises ends its firing `failed`, with the error as the reason. Where the database
    is away the message is tried again until it is back.

    Args:
        broker: of the worker that performs them.
        firings: told of what came of them.
        chores: what to do, by its contract; each is safe to run twice, and beside itself.

    Returns:
        Their queues.
    """
    for contract, chore in chores.items():
        declare_performer(broker, contract, _performer(firings, chore))
    return {contract.queue for contract in chores}


def declare_performer(broker: Broker, contract: TargetContract, perform: Perform) -> None:
    """Declare the actor of a tracked contract.

    Args:
        broker: of the worker that performs it.
        contract: names actor and queue.
        perform: raises only where the database is away: that is tried until it is back.
    """
    if not any(isinstance(middleware, CurrentMessage) for middleware in broker.middleware):
        broker.add_middleware(CurrentMessage())

    from_zero(_PERFORMED, (contract.name,), (*_ENDS, _DROPPED))

    def run(**payload: Any) -> None:
        firing_id = PerformFiring.model_validate(payload).firing_id
        with structlog.contextvars.bound_contextvars(firing_id=firing_id, target=contract.name):
            state = perform(firing_id, _is_retried())
        _PERFORMED.labels(target=contract.name, outcome=state or _DROPPED).inc()

    dramatiq.actor(
        actor_name=contract.actor,
        queue_name=contract.queue,
        broker=broker,
        retry_when=_is_away,
        max_backoff=_LONGEST_BACKOFF_MS,
    )(run)


def reason_of(error: Exception) -> str:
    """Say in one readable line why something failed, without secrets."""
    if isinstance(error, HeadraceError):
        return without_secrets(error.detail)[:_MAX_REASON]
    lines = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return without_secrets(told)[:_MAX_REASON]


def _performer(firings: Firings, chore: Chore) -> Perform:
    def perform(firing_id: int, retried: bool) -> FiringState | None:  # noqa: FBT001 - see Perform
        if not firings.begin(firing_id, retried=retried):
            return None
        try:
            result = chore()
        except _AWAY:
            raise
        except Exception as error:
            log.exception("firing.failed")
            firings.finish(firing_id, state=FiringState.FAILED, reason=reason_of(error))
            return FiringState.FAILED
        log.info("firing.succeeded", result=result)
        firings.finish(firing_id, state=FiringState.SUCCEEDED, result=result)
        return FiringState.SUCCEEDED

    return perform


def _is_retried() -> bool:
    message = CurrentMessage.get_current_message()
    return message is not None and bool(message.options.get("retries"))


def _is_away(_retries: int, error: BaseException) -> bool:
    return isinstance(error, _AWAY)
