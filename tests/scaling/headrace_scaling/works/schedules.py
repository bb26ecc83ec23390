"""Schedulers: one leads and the others stand by, so that more of them fire no more often."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headrace_drill.beats import Beat, make_beats
from headrace_drill.checker import Facts, check
from headrace_drill.gathering import count_unfinished, gather
from headrace_drill.target import NOTE
from headrace_drill.watch import Watch
from sqlalchemy import delete, text, update

from headrace_common.db import Firing, Schedule
from headrace_local.waiting import wait_until
from headrace_scaling.fleet import SCHEDULER
from headrace_scaling.outcomes import Firings, TakeOver
from headrace_scaling.scene import Scene

_SCHEDULES: Final = 40
_SECONDS: Final = 3.0
_DEADLINE_SECONDS: Final = 120.0
_TWICE: Final = ("a due time fired twice", "a firing had two effects")


@dataclass
class Schedules:
    """Beats of the drill on the schedulers of a fleet, whose messages nobody takes."""

    scene: Scene
    say: Callable[[str], None]

    def batch(self) -> Firings:
        """Let those that run fire for some seconds."""
        running = self.scene.fleet.running(SCHEDULER)
        with self._watch() as watch:
            beats = self._begin(watch)
            time.sleep(_SECONDS)  # what comes due comes by the clock
            facts = self._end(beats)
        found = Firings(len(running), *_count(facts))
        self.say(f"scheduler: {found}")
        return found

    def take_over(self, *, kill: bool) -> TakeOver:
        """End the one that leads."""
        fleet = self.scene.fleet
        with self._watch() as watch:
            beats = self._begin(watch)
            name, leader = self._leader(watch)
            at = time.monotonic()
            if kill:
                fleet.lose(SCHEDULER, name)
            else:
                fleet.stop(SCHEDULER, name)
            lead = wait_until(lambda: watch.next_after(at, but=leader), seconds=_DEADLINE_SECONDS)
            time.sleep(_SECONDS)  # what comes due then is the new one's
            facts = self._end(beats)
        found = TakeOver(kill, lead.at - at, *_count(facts))
        self.say(f"scheduler: {found}")
        return found

    def _watch(self) -> Watch:
        return Watch(self.scene.settings["DATABASE_URL"])

    def _begin(self, watch: Watch) -> Sequence[Beat]:
        """Make schedules, once one of those that run leads; nothing of earlier ones is left."""
        self._leader(watch)
        namespace = self._namespace
        for key in self.scene.redis.scan_iter(f"{namespace}:{NOTE.queue}*"):
            self.scene.redis.delete(key)
        chance = random.Random(1)  # noqa: S311 - the same each time
        with self.scene.database.begin() as session:
            now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
            beats = make_beats(_SCHEDULES, now=now, random=chance)
            session.execute(delete(Firing).where(Firing.target == NOTE.name))
            session.execute(delete(Schedule).where(Schedule.target == NOTE.name))
            session.add_all(beat.row(now) for beat in beats)
        return beats

    def _end(self, beats: Sequence[Beat]) -> Facts:
        """Look at all that was due until now, once it has fired."""
        database = self.scene.database
        with database.begin() as session:
            until: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while count_unfinished(database, until) and time.monotonic() < deadline:
            time.sleep(0.1)
        with database.begin() as session:
            session.execute(
                update(Schedule)
                .where(Schedule.target == NOTE.name)
                .values(paused=True, next_fire_at=None, next_due_at=None)
            )
        return gather(
            database, self.scene.redis, namespace=self._namespace, beats=beats, until=until
        )

    def _leader(self, watch: Watch) -> tuple[str, int]:
        """Return the name and the process id of the one that leads, once there is one."""
        fleet = self.scene.fleet

        def look() -> tuple[str, int] | None:
            leader = watch.pid
            found = [it for it in fleet.running(SCHEDULER) if fleet.record(it).pid == leader]
            return (found[0], leader) if found and leader is not None else None

        return wait_until(look, seconds=_DEADLINE_SECONDS)

    @property
    def _namespace(self) -> str:
        return self.scene.settings.get("DRAMATIQ_NAMESPACE", "dramatiq")


def _count(facts: Facts) -> tuple[int, int, int]:
    """Return how many due times there were, what was done twice, and what else was wrong."""
    due = sum(1 for beat in facts.beats for _ in beat.times(facts.until))
    cases = {violation.rule: violation.cases for violation in check(facts)}
    doubled = sum(cases.pop(rule, 0) for rule in _TWICE)
    return due, doubled, sum(cases.values())
