"""What the leader does in its term, turn by turn, in one thread over one connection.

APScheduler rings when a schedule comes due. Once a second, by the monotonic clock, the leader
looks besides for what is due and did not ring: schedules that were just made or changed, and all
of them after a jump of this process's clock. The sign of life is given by the same loop, so that
it ends when the loop hangs.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

import structlog
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_dispatcher.scheduling.clockwork import Clockwork
from headrace_dispatcher.scheduling.election import DeposedError, Term
from headrace_dispatcher.scheduling.firing import database_now, fire_due
from headrace_dispatcher.scheduling.posting import PostOffice
from headrace_dispatcher.scheduling.relay import Relay
from headrace_dispatcher.scheduling.settings import SchedulerSettings
from headrace_dispatcher.scheduling.settling import Settling

log = structlog.get_logger()

_ROUND_SECONDS: Final = 1.0
#: How often the leader gives a sign of life, and what part of its lease is the most.
_HEARTBEAT_SECONDS: Final = 2.0
_HEARTBEAT_SHARE: Final = 0.2
#: Alarms are set for what comes due so soon.
_WINDOW: Final = timedelta(seconds=5)
#: Most alarms that one round sets; those who come due first.
_MOST_ALARMS: Final = 2_000

_UPCOMING: Final = text("""
SELECT id, next_due_at FROM schedules
WHERE next_due_at > :now AND next_due_at <= :until AND NOT paused
ORDER BY next_due_at, id LIMIT :most
""")
_IS_OVERDUE: Final = text("""
SELECT EXISTS (SELECT FROM schedules WHERE next_due_at <= :now AND NOT paused)
""")

#: Done at the beginning of each term, in a transaction of its own.
AtElection = Callable[[Session], object]


class Leading:
    """One term's work."""

    def __init__(
        self,
        term: Term,
        broker: RedisBroker,
        settings: SchedulerSettings,
        at_election: Sequence[AtElection] = (),
    ) -> None:
        """Make it; it runs within its `with` block."""
        self._term = term
        self._at_election = at_election
        self._open = ExitStack()
        self._clockwork = Clockwork()
        # Redis is asked for one thing at a time, beside this thread.
        self._errands = ThreadPoolExecutor(1, thread_name_prefix="scheduler-errands")
        self._relay = Relay(
            PostOffice(broker), self._errands, epoch=term.epoch, wake=self._clockwork.wake
        )
        self._settling = Settling(broker, self._errands, settings)
        self._beat_seconds = min(
            _HEARTBEAT_SECONDS, _HEARTBEAT_SHARE * settings.scheduler_lease_seconds
        )
        self._round_at = self._beat_at = time.monotonic()
        self._more = False

    def __enter__(self) -> Self:
        """Begin the term."""
        for deed in self._at_election:
            self._do(deed)
        self._open.callback(self._errands.shutdown, wait=False, cancel_futures=True)
        self._open.enter_context(self._clockwork)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._open.close()

    def wake(self) -> None:
        """End the wait under way, from any thread."""
        self._clockwork.wake()

    def turn(self) -> None:
        """Wait until there is something to do, a second at most, and do it.

        Raises:
            DeposedError: the term is over.
            sqlalchemy.exc.SQLAlchemyError: Postgres is away, or has ended the connection.
        """
        rung = self._clockwork.wait(timeout_seconds=self._patience())
        if time.monotonic() >= self._round_at:
            self._round()
        if rung or self._more:
            self._fire(rung)
        if self._relay.has_work():
            with self._term.begin() as session:
                self._relay.step(session)
            self._relay.send()

    def _do(self, deed: AtElection) -> None:
        """Do it. Schedules have to fire even if it fails."""
        try:
            with self._term.begin() as session:
                deed(session)
        except DeposedError:
            raise
        except Exception:
            log.exception("scheduler.deed_failed")

    def _patience(self) -> float:
        if self._more or self._relay.has_work():
            return 0.0
        return self._round_at - time.monotonic()

    def _round(self) -> None:
        now = time.monotonic()
        self._round_at = now + min(_ROUND_SECONDS, self._beat_seconds)
        with self._term.begin() as session:
            if now >= self._beat_at:
                self._term.beat(session)
                self._beat_at = now + self._beat_seconds
            self._look_ahead(session)
            self._settling.step(session)
        self._relay.look_again()

    def _look_ahead(self, session: Session) -> None:
        """Set the alarms of what comes due soon."""
        before = datetime.now(UTC)
        now = database_now(session)
        self._clockwork.tell_time(now, before + (datetime.now(UTC) - before) / 2)
        asked = {"now": now, "until": now + _WINDOW, "most": _MOST_ALARMS}
        rows = session.execute(_UPCOMING, asked)
        self._clockwork.set({row.id: row.next_due_at for row in rows})
        self._more |= bool(session.scalar(_IS_OVERDUE, {"now": now}))

    def _fire(self, rung: dict[str, datetime]) -> None:
        with self._term.begin() as session:
            fired = fire_due(session, epoch=self._term.epoch)
        fired.measure()
        self._more = fired.more
        soon = fired.now + _WINDOW
        upcoming = {key: due_at for key, due_at in fired.upcoming.items() if due_at <= soon}
        self._clockwork.set(upcoming)
        if any(due_at > fired.now for due_at in rung.values()):
            # Too early: what this clock is off by has to be measured anew, and the alarms set.
            self._round_at = time.monotonic()
        if fired.has_pending:
            self._relay.look_again()
