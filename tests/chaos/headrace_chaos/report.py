"""What a run has shown: a table for people, and a file for machines."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from headrace_chaos.injector import Outcome
from headrace_chaos.schedule import FaultKind
from headrace_chaos.violations import Violation


@dataclass(frozen=True)
class Recovery:
    """How long it took after the faults of one kind.

    Attributes:
        kind: of fault.
        count: how many happened.
        seconds: of those that were recovered from, ascending.
        given_up: how many were not.
    """

    kind: FaultKind
    count: int
    seconds: Sequence[float]
    given_up: int

    @property
    def median(self) -> float | None:
        """The middle one."""
        return median(self.seconds) if self.seconds else None

    @property
    def longest(self) -> float | None:
        """The longest one."""
        return max(self.seconds, default=None)


@dataclass(frozen=True)
class Report:
    """Everything about one run.

    Attributes:
        seed: repeats the schedule and the workload.
        command: the whole command that does.
        jobs: by final state and, where they failed, why; of the workload and the canaries. Uploads
            that broke off and were never accepted are among them.
        ways: accepted, by the way they came in.
        outcomes: of the faults.
        violations: what must never be; nothing if all is well.
        unsettled: what was still under way when the wait was over.
        answers: how often the services gave each answer to the workload.
        failed_requests: HTTP requests that proxies answered instead of the server, and those
            that the server had done.
        seconds: of the parts of the run.
        notes: what could not be done here.
    """

    seed: int
    command: Sequence[str]
    jobs: Mapping[str, int]
    ways: Mapping[str, int]
    outcomes: Sequence[Outcome]
    violations: Sequence[Violation]
    unsettled: Sequence[str]
    answers: Mapping[str, int]
    failed_requests: Mapping[str, int]
    seconds: Mapping[str, float]
    notes: Sequence[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was hurt, and everything came to rest."""
        return not self.violations and not self.unsettled

    @property
    def recoveries(self) -> list[Recovery]:
        """Each kind of fault that happened."""
        happened = [outcome for outcome in self.outcomes if outcome.happened]
        kinds = [kind for kind in FaultKind if any(o.planned.kind is kind for o in happened)]
        return [_recovery(kind, [o for o in happened if o.planned.kind is kind]) for kind in kinds]

    def to_json(self) -> str:
        """Return all of it for machines."""
        data: dict[str, Any] = asdict(self)
        data["recoveries"] = [
            {**asdict(each), "median": each.median, "longest": each.longest}
            for each in self.recoveries
        ]
        data["clean"] = self.is_clean
        return json.dumps(data, indent=2, default=str)

    def write(self, directory: Path) -> None:
        """Write report.json and report.md."""
        (directory / "report.json").write_text(self.to_json())
        (directory / "report.md").write_text("\n".join(self._markdown()) + "\n")

    def show(self, console: Console) -> None:
        """Print it."""
        table = Table("FAULT", "COUNT", "RECOVERY MEDIAN", "MAXIMUM", "GIVEN UP")
        for row in self._rows():
            table.add_row(*row)
        console.print(table)
        for name, line in self._facts():
            console.print(f"{name:<12} {line}", highlight=False, markup=False)
        for kind, count in Counter(v.kind for v in self.violations).items():
            console.print(f"  {count} x {kind}", style="red")
        for violation in self.violations[:50]:
            console.print(f"  {violation}", style="red", highlight=False, markup=False)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for each in self.recoveries:
            given_up = str(each.given_up) if each.given_up else ""
            yield (
                str(each.kind),
                str(each.count),
                _seconds(each.median),
                _seconds(each.longest),
                given_up,
            )

    def _facts(self) -> Iterator[tuple[str, str]]:
        happened = sum(outcome.happened for outcome in self.outcomes)
        yield "faults", f"{happened} of {len(self.outcomes)} happened"
        yield "jobs", f"{sum(self.jobs.values())}: {_counts(self.jobs)}"
        yield "ways", _counts(self.ways)
        yield "answers", _counts(self.answers)
        yield "proxies", _counts(self.failed_requests)
        yield "seconds", ", ".join(f"{name} {taken:.0f}" for name, taken in self.seconds.items())
        for note in self.notes:
            yield "note", note
        for each in self.unsettled:
            yield "unsettled", each
        yield "violations", str(len(self.violations))
        yield "repeat", shlex.join(self.command)

    def _markdown(self) -> Iterator[str]:
        yield f"# Chaos run with seed {self.seed}: {'clean' if self.is_clean else 'NOT CLEAN'}\n"
        yield "| Fault | Count | Recovery, median | Maximum | Given up |"
        yield "|---|---|---|---|---|"
        for row in self._rows():
            yield f"| {' | '.join(row)} |"
        yield ""
        for name, line in self._facts():
            yield f"- {name}: {line}"
        for violation in self.violations:
            yield f"- {violation}"


def _recovery(kind: FaultKind, outcomes: Iterable[Outcome]) -> Recovery:
    taken = [outcome.recovery for outcome in outcomes]
    seconds = sorted(each for each in taken if each is not None)
    return Recovery(kind, len(taken), seconds, len(taken) - len(seconds))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
