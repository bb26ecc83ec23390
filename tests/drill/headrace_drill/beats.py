"""The drill's schedules, and the times at which each has to fire: reckoned here, not asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from headrace_common.db import Schedule
from headrace_drill.target import NOTE

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Steps that a minute is a multiple of, so that `*/n` of the seconds goes on evenly.
_CRON_STEPS: Final = (1, 2, 3, 5, 10, 15, 20, 30, 60)
_CRON_SHARE: Final = 0.3
_LONGEST_SECONDS: Final = 60


@dataclass(frozen=True)
class Beat:
    """A schedule that fires every `step` seconds from `first` on."""

    id: str
    first: datetime
    step: int
    is_cron: bool

    def times(self, until: datetime) -> Iterator[datetime]:
        """Yield every nominal time until then."""
        time = self.first
        while time <= until:
            yield time
            time += timedelta(seconds=self.step)

    def row(self, now: datetime) -> Schedule:
        """Return its row as the API would have made it."""
        seconds = "0" if self.step == 60 else f"*/{self.step}"
        trigger: dict[str, Any] = (
            {"type": "cron", "expression": f"{seconds} * * * * *"}
            if self.is_cron
            else {"type": "interval", "seconds": self.step, "anchor": self.first.isoformat()}
        )
        return Schedule(
            id=self.id,
            name=self.id,
            trigger=trigger,
            target=NOTE.name,
            target_key=NOTE.name,
            # Longer than any fault: nothing is missed, so that everything has to fire.
            misfire_grace_seconds=3600,
            overlap="allow",
            next_fire_at=self.first,
            next_due_at=self.first,
            created_at=now,
            created_by="drill",
            changed_by="drill",
        )


def make_beats(count: int, *, now: datetime, random: Random) -> list[Beat]:
    """Make schedules that come every second to every minute, short ones more often."""
    return [_make_beat(f"drill-{index:04d}", now, random) for index in range(count)]


def _make_beat(name: str, now: datetime, random: Random) -> Beat:
    if random.random() < _CRON_SHARE:
        step = random.choice(_CRON_STEPS)
        return Beat(name, _first_multiple(now + timedelta(seconds=1), step), step, is_cron=True)
    step = round(_LONGEST_SECONDS ** random.random())
    first = now + timedelta(seconds=1) + random.random() * timedelta(seconds=step)
    return Beat(name, first, step, is_cron=False)


def _first_multiple(after: datetime, step: int) -> datetime:
    count = (after - _EPOCH) // timedelta(seconds=step) + 1
    return _EPOCH + count * timedelta(seconds=step)
