"""What trials found, and whether it is good enough. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: Least speed-up by number of replicas, against one in the same run.
SPEED_UPS: Final = {2: 1.6, 4: 2.6}
#: Least Jain's index of what the replicas of a batch did.
FAIRNESS: Final = 0.85


@dataclass(frozen=True)
class Batch:
    """A batch of work, by so many replicas.

    Attributes:
        replicas: how many there were.
        pieces: of work.
        rate: pieces a second.
        shares: part of the work that each replica did.
        fairness: Jain's index of these.
        twice: pieces that were done more than once, or had more than one effect.
        lost: pieces that were not done.
    """

    replicas: int
    pieces: int
    rate: float
    shares: tuple[float, ...]
    fairness: float
    twice: int
    lost: int

    def __str__(self) -> str:
        parts = "/".join(f"{100 * share:.0f}" for share in self.shares)
        return (
            f"{self.replicas} replicas, {self.pieces} pieces, {self.rate:.1f}/s, {parts} %, "
            f"fairness {self.fairness:.3f}, {self.twice} twice, {self.lost} lost"
        )


@dataclass(frozen=True)
class HandOver:
    """The end of a replica in the midst of a batch.

    Attributes:
        killed: with SIGKILL, and not started again; else in good order.
        replicas: how many there were until then.
        handed: pieces that it had in hand, and others did.
        seconds: from its end, or the order to end, until the last of these was done.
        gone_seconds: from the order to end until the process was gone, the pause included in
            which it still gets connections that are under way.
        twice: as in `Batch`.
        lost: as in `Batch`.
    """

    killed: bool
    replicas: int
    handed: int
    seconds: float
    gone_seconds: float
    twice: int
    lost: int

    def __str__(self) -> str:
        how = "killed" if self.killed else f"stopped in {self.gone_seconds:.1f} s"
        return (
            f"one of {self.replicas} {how}, {self.handed} handed over within {self.seconds:.1f} s, "
            f"{self.twice} twice, {self.lost} lost"
        )


@dataclass(frozen=True)
class Row:
    """All of a kind of work; see `Work` for what is not explained here."""

    deployment: str
    what: str
    cores: float | None
    settled_by: str
    is_once: bool
    batches: tuple[Batch, ...]
    hand_overs: tuple[HandOver, ...]

    def speed_up(self, batch: Batch) -> float:
        """Return how many times faster a batch was than that of one replica."""
        return batch.rate / self.batches[0].rate

    def faults(self) -> Iterator[str]:
        """Yield what is not as it must be."""
        where = f"{self.deployment}, {self.what}"
        for batch in self.batches:
            bound, speed_up = SPEED_UPS.get(batch.replicas), self.speed_up(batch)
            if bound is not None and speed_up < bound:
                yield f"{where}: {speed_up:.2f} times as fast, at least {bound} is wanted ({batch})"
            if batch.fairness < FAIRNESS:
                yield f"{where}: at least {FAIRNESS} of fairness is wanted ({batch})"
            yield from _count_faults(f"{where} ({batch})", batch.twice, batch.lost)
        for end in self.hand_overs:
            # Where it may be done again, its receiver tells that apart.
            may_be = end.handed if end.killed and not self.is_once else 0
            yield from _count_faults(f"{where} ({end})", max(0, end.twice - may_be), end.lost)


def _count_faults(where: str, twice: int, wrong: int) -> Iterator[str]:
    if twice:
        yield f"{where}: {twice} done twice"
    if wrong:
        yield f"{where}: {wrong} lost, or not as planned"


@dataclass(frozen=True)
class Firings:
    """What schedulers fired while nothing happened to them.

    Attributes:
        replicas: how many there were, of which one leads.
        due: times that came due.
        twice: due times that fired, or had an effect, more than once.
        wrong: due times that did not fire, or not as planned.
    """

    replicas: int
    due: int
    twice: int
    wrong: int

    def __str__(self) -> str:
        return f"{self.replicas} replicas, {self.due} due, {self.twice} twice, {self.wrong} wrong"


@dataclass(frozen=True)
class TakeOver:
    """The end of the one that led; see `Firings`.

    Attributes:
        killed: with SIGKILL; else in good order.
        seconds: until another led.
    """

    killed: bool
    seconds: float
    due: int
    twice: int
    wrong: int

    def __str__(self) -> str:
        how = "killed" if self.killed else "stopped"
        return (
            f"leader {how}, another led after {self.seconds:.1f} s, {self.due} due, "
            f"{self.twice} twice, {self.wrong} wrong"
        )


@dataclass(frozen=True)
class Schedulers:
    """All of the schedulers."""

    firings: tuple[Firings, ...]
    take_overs: tuple[TakeOver, ...]

    def faults(self) -> Iterator[str]:
        """Yield what is not as it must be."""
        for batch in self.firings:
            yield from _count_faults(f"scheduler ({batch})", batch.twice, batch.wrong)
        for end in self.take_overs:
            yield from _count_faults(f"scheduler ({end})", end.twice, end.wrong)


@dataclass(frozen=True)
class Outcome:
    """All that a run found; `schedulers` is None where they were not tried."""

    rows: tuple[Row, ...]
    schedulers: Schedulers | None

    def faults(self) -> list[str]:
        """Return what is not as it must be."""
        found = [fault for row in self.rows for fault in row.faults()]
        return found + list(self.schedulers.faults() if self.schedulers else ())
