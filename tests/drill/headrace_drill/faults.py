"""What is done to the processes: a fault every few seconds, most of them to the leader."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final

import psycopg

from headrace_drill.fleet import Fleet, Member
from headrace_drill.watch import Watch

#: Longest that a drill takes longer than it should.
_PATIENCE: Final = 10
#: Longest that it takes until the leader writes firings, with schedules that come every second.
_WRITE_SECONDS: Final = 3.0
_WAITS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'headrace-scheduler' AND wait_event_type = 'Lock'
"""


class Kind(StrEnum):
    """Of a fault."""

    KILL = "kill -9"
    FREEZE = "freeze"
    FREEZE_WRITING = "freeze in a transaction"
    STOP = "graceful stop"


@dataclass(frozen=True)
class Fault:
    """Something that happened.

    Attributes:
        kind: of it.
        at: when, by the monotonic clock.
        pid: of the process.
        hit_leader: whether that led.
    """

    kind: Kind
    at: float
    pid: int
    hit_leader: bool


@dataclass
class Havoc:
    """Does it, one thing after another."""

    fleet: Fleet
    watch: Watch
    database_url: str
    random: Random
    lease_seconds: float
    pause_seconds: tuple[float, float]
    leader_share: float
    say: Callable[[str], None]
    done: list[Fault] = field(default_factory=list)
    _mending: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Go on for so long, and then until what was done is mended."""
        began = time.monotonic()
        next_at = time.monotonic() + self.pause_seconds[0]
        kind, to_leader = self._next()
        while not self._is_enough(time.monotonic() - began, seconds):
            self._mend()
            if time.monotonic() >= next_at and (victim := self._victim(to_leader=to_leader)):
                self._strike(kind, victim)
                kind, to_leader = self._next()
                next_at = time.monotonic() + self.random.uniform(*self.pause_seconds)
            time.sleep(0.05)
        while self._mending:
            self._mend()
            time.sleep(0.05)

    def _is_enough(self, passed: float, seconds: float) -> bool:
        """Whether to end: a slow machine gets the time that it needs for one of each kind."""
        return passed > seconds and (len(self.done) >= len(Kind) or passed > _PATIENCE * seconds)

    def _next(self) -> tuple[Kind, bool]:
        """Decide what comes next: each kind in its turn, so that a short drill has them all."""
        kinds = list(Kind)
        kind = kinds[len(self.done) % len(kinds)]
        # Only a leader writes.
        return kind, kind is Kind.FREEZE_WRITING or self.random.random() < self.leader_share

    def _victim(self, *, to_leader: bool) -> Member | None:
        """Return whom it hits; nobody as long as there would be none left to lead."""
        ready = self.fleet.ready()
        if len(ready) < 2:
            return None
        if not to_leader:
            return self.random.choice(ready)
        leader = self.fleet.by_pid(self.watch.pid)
        return leader if leader in ready else None

    def _mend(self) -> None:
        now = time.monotonic()
        for at, mend in [each for each in self._mending if each[0] <= now]:
            mend()
            self._mending.remove((at, mend))

    def _strike(self, kind: Kind, victim: Member) -> None:
        pid, leads = victim.pid, victim is self.fleet.by_pid(self.watch.pid)
        assert pid is not None
        began = time.monotonic()
        if kind is Kind.FREEZE_WRITING:
            began = self._freeze_writing(victim)
        else:
            _begin(kind, victim)
        self.done.append(Fault(kind, began, pid, leads))
        self.say(f"{kind}: {victim.name}{', which leads' if leads else ''}")
        if kind in {Kind.FREEZE, Kind.FREEZE_WRITING}:
            # Longer than the lease, so that another leads when it comes back.
            seconds = self.lease_seconds + self.random.uniform(1, 5)
            self._mending.append((time.monotonic() + seconds, victim.thaw))
        else:
            self._mending.append((time.monotonic() + self.random.uniform(0.2, 1), victim.start))

    def _freeze_writing(self, victim: Member) -> float:
        """Freeze it while it waits for a lock in a transaction: the server goes on with that."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute("LOCK TABLE firings IN SHARE MODE")
            until = time.monotonic() + _WRITE_SECONDS
            while time.monotonic() < until:
                row = connection.execute(_WAITS).fetchone()
                if row is not None and row[0]:
                    break
                time.sleep(0.01)
            victim.freeze()
            return time.monotonic()


def _begin(kind: Kind, victim: Member) -> None:
    if kind is Kind.KILL:
        victim.kill()
    elif kind is Kind.STOP:
        victim.stop()
    else:
        victim.freeze()
