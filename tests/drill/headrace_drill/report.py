"""What a drill found, for people."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
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
        lease_seconds: of a leader.
    """

    facts: Facts
    violations: Sequence[Violation]
    blind: Sequence[str]
    faults: Sequence[Fault]
    leads: Sequence[Lead]
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

    def drift(self, *, while_led: bool) -> dict[str, float]:
        """Return percentiles of what firings were late by, in seconds.

        Args:
            while_led: of those only that came due in the term that recorded them.
        """
        begun = {lead.epoch: lead.elected_at for lead in self.leads}
        late = sorted(
            firing.drift_seconds
            for firing in self.facts.firings
            if not while_led or (firing.epoch in begun and firing.due_at >= begun[firing.epoch])
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
        for name, while_led in (("all", False), ("those due while somebody led", True)):
            drift = self.drift(while_led=while_led)
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
