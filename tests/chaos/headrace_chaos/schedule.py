"""Which faults come when: all of it chosen from the seed before anything begins."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headrace_chaos.modes import Blackhole, Cut, HttpErrors, Mode, Reset, Slow


class FaultKind(StrEnum):
    """What can happen to a stack; the value is what the table calls it."""

    KILL = "kill -9"
    RESTART = "restart"
    FREEZE = "freeze"  #: SIGSTOP, and SIGCONT later
    CUT = "cut"  #: connections reset, and new ones refused
    BLACKHOLE = "blackhole"  #: nothing arrives, nothing is closed
    SLOW = "slow"
    RESET = "reset"  #: each connection is reset after a moment
    ERRORS = "HTTP errors"  #: 429, 500 and 503 at a rate, some after the work was done
    FLUSH = "flush"  #: Redis emptied
    CLOCK = "clock jump"


#: How often each kind comes once all have come once.
_WEIGHTS: Final[Mapping[FaultKind, int]] = {
    FaultKind.KILL: 5,
    FaultKind.FREEZE: 4,
    FaultKind.ERRORS: 4,
    FaultKind.CUT: 3,
    FaultKind.BLACKHOLE: 3,
    FaultKind.RESTART: 2,
    FaultKind.SLOW: 2,
    FaultKind.RESET: 2,
    FaultKind.CLOCK: 2,
    FaultKind.FLUSH: 1,
}
#: Seconds from the beginning to the end: least and most. Those without end by themselves.
_SECONDS: Final[Mapping[FaultKind, tuple[float, float]]] = {
    FaultKind.FREEZE: (1, 12),
    FaultKind.CUT: (1, 12),
    FaultKind.BLACKHOLE: (2, 12),
    FaultKind.SLOW: (4, 15),
    FaultKind.RESET: (2, 8),
    FaultKind.ERRORS: (4, 12),
    FaultKind.CLOCK: (4, 15),
}
_JUMPS_SECONDS: Final = (-7_200, -3_600, -120, 120, 3_600, 86_400)
#: Only a camera's job comes past them.
_CAMERA_TARGETS: Final = ("swift", "keystone", "gpu-preprocessor")


@dataclass(frozen=True)
class Targets:
    """What there is to be broken.

    Attributes:
        servers: names.
        services: names, replicas included.
        proxies: names of what is behind them.
        http: those of the proxies that speak HTTP.
        clocked: those of the services whose clocks can be set.
    """

    servers: Sequence[str]
    services: Sequence[str]
    proxies: Sequence[str]
    http: Sequence[str]
    clocked: Sequence[str]

    def of(self, kind: FaultKind) -> Sequence[str]:
        """Return what a kind of fault can happen to."""
        match kind:
            case FaultKind.KILL | FaultKind.RESTART | FaultKind.FREEZE:
                return [*self.servers, *self.services]
            case FaultKind.ERRORS:
                return self.http
            case FaultKind.FLUSH:
                return [name for name in self.servers if name == "valkey"]
            case FaultKind.CLOCK:
                return self.clocked
            case _:
                return self.proxies


@dataclass(frozen=True)
class PlannedFault:
    """One fault.

    Attributes:
        number: from 1.
        at: seconds after the start at which it begins, or later while others are in its way.
        kind: what happens.
        target: name of a process, or of what is behind a proxy.
        seconds: how long it lasts.
        mode: what the proxy does.
        offset: seconds by which a clock jumps.
    """

    number: int
    at: float
    kind: FaultKind
    target: str
    seconds: float = 0.0
    mode: Mode | None = None
    offset: int = 0

    @property
    def affects_cameras(self) -> bool:
        """Whether it is in the way of camera jobs only."""
        return self.target in _CAMERA_TARGETS

    def __str__(self) -> str:
        """Show it in one line."""
        how = f" {self.mode}" if self.mode else f" {self.offset:+d} s" if self.offset else ""
        return f"{self.number:3} {self.kind} {self.target} for {self.seconds:.1f} s{how}"


def plan_faults(
    seed: int, targets: Targets, *, faults: int, seconds: float, longest: float = 15.0
) -> list[PlannedFault]:
    """Choose everything from the seed.

    Args:
        seed: the same gives the same faults.
        targets: what there is.
        faults: how many.
        seconds: over which they are spread; the last one begins a little before the end.
        longest: none lasts longer.
    """
    chance = random.Random(f"faults-{seed}")  # noqa: S311 - a plan is no secret
    kinds = _kinds(chance, targets)
    bags = {kind: _bag(chance, targets.of(kind)) for kind in FaultKind}
    gap = seconds / max(faults, 1)
    planned = []
    for number in range(faults):
        kind = next(kinds)
        at = gap * (number + chance.uniform(0.1, 0.9))
        planned.append(_fault(chance, number + 1, at, kind, next(bags[kind]), longest))
    return planned


def _kinds(chance: random.Random, targets: Targets) -> Iterator[FaultKind]:
    """Yield each kind once, then any by its weight."""
    possible = [kind for kind in FaultKind if targets.of(kind)]
    first = list(possible)
    chance.shuffle(first)
    yield from first
    while True:
        yield chance.choices(possible, [_WEIGHTS[kind] for kind in possible])[0]


def _bag(chance: random.Random, names: Sequence[str]) -> Iterator[str]:
    """Yield all names in some order, again and again."""
    while names:
        shuffled = list(names)
        chance.shuffle(shuffled)
        yield from shuffled


def _fault(
    chance: random.Random, number: int, at: float, kind: FaultKind, target: str, longest: float
) -> PlannedFault:
    least, most = _SECONDS.get(kind, (0.0, 0.0))
    seconds = round(min(chance.uniform(least, most), longest), 1)
    offset = chance.choice(_JUMPS_SECONDS) if kind is FaultKind.CLOCK else 0
    mode = _mode(chance, kind)
    return PlannedFault(number, round(at, 1), kind, target, seconds, mode, offset)


def _mode(chance: random.Random, kind: FaultKind) -> Mode | None:
    match kind:
        case FaultKind.CUT:
            return Cut()
        case FaultKind.BLACKHOLE:
            return Blackhole()
        case FaultKind.RESET:
            return Reset(within_seconds=round(chance.uniform(0.1, 1.0), 2))
        case FaultKind.SLOW:
            delay = round(chance.uniform(0.02, 0.3), 3)
            return Slow(delay_seconds=delay, bytes_per_second=chance.randint(20, 500) * 1_000)
        case FaultKind.ERRORS:
            status = chance.choice((500, 503, 503, 429))
            return HttpErrors(
                rate=round(chance.uniform(0.3, 1.0), 2),
                status=status,
                retry_after=chance.choice((None, 1, 2)) if status != 500 else None,
                done_share=chance.choice((0.0, 0.3)),
            )
        case _:
            return None
