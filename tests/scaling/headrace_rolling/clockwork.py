"""Schedules that fire while replicas are replaced, and the account of their firings."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from headrace_drill import target
from headrace_drill.beats import Beat, make_beats
from headrace_drill.checker import Facts, Violation, check
from headrace_drill.gathering import count_unfinished, gather
from sqlalchemy import text

from headrace_common.db import Database
from headrace_local.waiting import wait_until

_COUNT: Final = 12
_NAMESPACE: Final = "dramatiq"
_QUEUE: Final = f"{_NAMESPACE}:{target.NOTE.queue}"
_DRILL: Final = Path(target.__file__).parents[1]


def declare(place: Path) -> Sequence[str]:
    """Return what a dispatcher's PYTHONPATH needs so that it knows what the schedules fire."""
    target.declare(place)
    return [str(place), str(_DRILL)]


class Clockwork:
    """Makes schedules, lets them fire, and ends them."""

    def __init__(self, database: Database, redis: Any, *, number: int) -> None:
        """Make it; `number` keeps those of one stack apart."""
        self._database = database
        self._redis = redis
        self._number = number
        self._beats: list[Beat] = []

    def start(self) -> None:
        """Begin."""
        chance = Random(self._number)  # noqa: S311 - when they fire is no secret
        now = self._now()
        prefix = f"rolling-{self._number}"
        self._beats = [
            Beat(f"{prefix}-{beat.id}", beat.first, beat.step, is_cron=beat.is_cron)
            for beat in make_beats(_COUNT, now=now, random=chance)
        ]
        with self._database.begin() as session:
            session.add_all(beat.row(now) for beat in self._beats)

    def finish(self, seconds: float) -> tuple[int, list[Violation]]:
        """End them, and return how many firings were due until now, and what is wrong with them.

        Args:
            seconds: for what is due to be fired and sent.
        """
        until = self._now()
        with suppress(AssertionError):  # the check tells what is missing
            wait_until(lambda: count_unfinished(self._database, until) == 0, seconds=seconds)
        mine = {beat.id for beat in self._beats}
        with self._database.begin() as session:
            session.execute(
                text(
                    "UPDATE schedules SET paused = true, next_fire_at = NULL, next_due_at = NULL "
                    "WHERE id = ANY(:ids)"
                ),
                {"ids": sorted(mine)},
            )
        found = gather(
            self._database, self._redis, namespace=_NAMESPACE, beats=self._beats, until=until
        )
        firings = [firing for firing in found.firings if firing.schedule_id in mine]
        ids = {firing.id for firing in firings}
        messages = [message for message in found.messages if message.firing_id in ids]
        facts = Facts(self._beats, until, firings, messages)
        self._redis.delete(_QUEUE, f"{_QUEUE}.msgs")
        due = sum(len(list(beat.times(until))) for beat in self._beats)
        return due, check(facts)

    def _now(self) -> datetime:
        with self._database.begin() as session:
            now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now
