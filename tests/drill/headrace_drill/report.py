"""What a drill found, for people."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from statistics import median

from headrace_drill.checker import Facts, Violation
from headrace_drill.faults import Fault, Kind
from headrace_drill.watch import Lead


@dataclass(frozen=True)
class Report:
    """The outcome of a drill.

    Attributes:
        facts: that were checked.
        violations: that the check found.
        blind: planted faults that the check did not find.
        faults: what was done.
        leads: terms.
        wrong_clocks: process ids of those whose clock is wrong.
        lease_seconds: of a leader.
    """

    facts: Facts
    violations: Sequence[Violation]
    blind: Sequence[str]
    faults: Sequence[Fault]
    leads: Sequence[Lead]
    wrong_clocks: AbstractSet[int]
    lease_seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether nothing was violated, by a check that sees."""
        return not self.violations and not self.blind

    def take_overs(self) -> dict[Kind, list[float]]:
        """Return how long it took until another led, for each fault that hit the leader."""
        found: defaultdict[Kind, list[float]] = defaultdict(list)
        for fault in self.faults:
            if fault.hit_leader:
                later = [it for it in self.leads if it.at > fault.at and it.pid != fault.pid]
                if later:
                    found[fault.kind].append(later[0].at - fault.at)
        return dict(found)

    def drift(self, *, wrong_clock: bool | None = None) -> dict[str, float]:
        """Return percentiles of what firings were late by, in seconds.

        Args:
            wrong_clock: of those only that came due in the term that recorded them, by a leader
                whose clock is wrong or right.
        """
        leads = {
            lead.epoch: lead
            for lead in self.leads
            if wrong_clock is None or (lead.pid in self.wrong_clocks) is wrong_clock
        }
        late = sorted(
            firing.drift_seconds
            for firing in self.facts.firings
            if wrong_clock is None
            or (firing.epoch in leads and firing.due_at >= leads[firing.epoch].elected_at)
        )
        if not late:
            return {}
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {
            name: late[min(int(share * len(late)), len(late) - 1)] for name, share in shares.items()
        }

    def lines(self) -> Iterator[str]:
        """Yield what to print."""
        expected = sum(sum(1 for _ in beat.times(self.facts.until)) for beat in self.facts.beats)
        yield (
            f"{len(self.facts.beats)} schedules, {expected} due times, {len(self.facts.firings)} "
            f"firings, {len(self.facts.messages)} messages, {len(self.leads)} terms"
        )
        asked = {
            "all": None,
            "due while one led whose clock is right": False,
            "due while one led whose clock is wrong": True,
        }
        for name, wrong_clock in asked.items():
            drift = self.drift(wrong_clock=wrong_clock)
            yield f"late, {name}: " + ", ".join(f"{it} {late:.3f} s" for it, late in drift.items())
        hits = self.take_overs()
        for kind in Kind:
            done = sum(fault.kind is kind for fault in self.faults)
            times = sorted(hits.get(kind, []))
            spread = (
                f"another led after {times[0]:.2f} to {times[-1]:.2f} s, median {median(times):.2f}"
                if times
                else "none of them hit the leader"
            )
            yield f"{kind}: {done}, {len(times)} of the leader; {spread}"
        for name in self.blind:
            yield f"THE CHECK IS BLIND: it does not find {name}"
        for violation in self.violations:
            yield f"VIOLATED: {violation}"
        yield "clean" if self.is_clean else "NOT CLEAN"
