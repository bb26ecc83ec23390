"""The collector: brings the letters of every source into the one place, again and again.

Every replica collects. A letter is kept once, by its source, queue and id there, and removed from
its source only after it was kept, so that neither two of them nor a kill between matters.
"""

from collections.abc import Sequence
from typing import Protocol

import redis
import structlog
from sqlalchemy import func, select

from headrace_common.db import Database, DeadLetter
from headrace_dispatcher.dead.letter import Source, State
from headrace_dispatcher.dead.metrics import LETTERS, OLDEST_SECONDS, SOURCE_FAULTS
from headrace_dispatcher.dead.tidying import Tidying

log = structlog.get_logger()


class LetterSource(Protocol):
    """A place where letters die."""

    @property
    def source(self) -> Source:
        """Which."""

    def collect(self) -> None:
        """Bring every letter in; raises where the server is away."""


class Collector:
    """Goes through the sources; one that is at fault keeps none of the others waiting."""

    def __init__(
        self,
        database: Database,
        sources: Sequence[LetterSource],
        tidying: Tidying,
        *,
        interval_seconds: float,
    ) -> None:
        """Make it.

        Args:
            database: where the letters go.
            sources: where they come from.
            tidying: clears away what is settled.
            interval_seconds: pause between two looks.
        """
        self._database = database
        self._sources = sources
        self._interval_seconds = interval_seconds
        self._tidying = tidying

    def step(self) -> float:
        """Look once; return the seconds until the next look."""
        for source in self._sources:
            self._look(source)
        self._tidy()
        self._measure()
        return self._interval_seconds

    @staticmethod
    def _look(source: LetterSource) -> None:
        try:
            source.collect()
        except Exception as error:
            SOURCE_FAULTS.labels(source=source.source).inc()
            log.warning("dead.source_at_fault", source=source.source, exc_info=error)

    def _tidy(self) -> None:
        try:
            self._tidying.tidy()
        except redis.RedisError as error:
            log.warning("dead.not_tidied", error=str(error)[:500])

    def _measure(self) -> None:
        with self._database.begin() as session:
            rows = session.execute(
                select(DeadLetter.source, DeadLetter.state, func.count()).group_by(
                    DeadLetter.source, DeadLetter.state
                )
            ).all()
            oldest = session.scalar(
                select(func.extract("epoch", func.now() - func.min(DeadLetter.died_at))).where(
                    DeadLetter.state == State.DEAD
                )
            )
        counts = {(source, state): count for source, state, count in rows}
        for source in Source:
            for state in State:
                LETTERS.labels(source=source, state=state).set(counts.get((source, state), 0))
        OLDEST_SECONDS.set(max(float(oldest or 0), 0))
