"""Services with bugs in their code, under the workload: does the whole suite notice?"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace_chaos.checker import check
from headrace_chaos.gathering import gather, quiescent
from headrace_chaos.ledger import Ledger
from headrace_chaos.plan import PlannedJob, Shares, make_plan
from headrace_chaos.sabotage import FILE_VARIABLE, SABOTAGES, Sabotage
from headrace_chaos.stack import ChaosStack
from headrace_chaos.violations import Violation, ViolationKind
from headrace_chaos.workload import Workload
from headrace_local.services import ServiceSpec
from headrace_local.waiting import wait_until

#: More of everything that a bug may show in than in a run.
_SHARES: Final = Shares(
    camera=0.15, direct=0, twice=0.25, cancel=0.2, retry=0.0, follow=0.3, replay=0.3, too_short=0
)
_JOBS: Final = 16
_SECONDS: Final = 6.0
#: On a busy machine an analysis takes its time, which is no fault of the stack's.
_SETTINGS: Final = {"ANALYSIS_DEADLINE_SECONDS": "60"}
#: How often a service is killed that has to be, and how long it has been ready then.
_KILLS: Final = 2
_ALIVE_SECONDS: Final = 4.0
_DONE_SECONDS: Final = 120.0
#: What has not changed for so long is stuck.
_STANDSTILL_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 1.0
_FOLLOW_SECONDS: Final = 600.0
#: Once everything else is quiet a follower has seen the end, or will not.
_LAST_SECONDS: Final = 10.0
_PLACE: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Verdict:
    """What the suite made of a sabotaged service.

    Attributes:
        found: violations that were not there before.
    """

    sabotage: Sabotage | None
    found: list[Violation]

    @property
    def caught(self) -> frozenset[ViolationKind]:
        """Those of the kinds looked for that were found."""
        wanted = self.sabotage.kinds if self.sabotage else frozenset()
        return wanted & {violation.kind for violation in self.found}

    @property
    def is_right(self) -> bool:
        """Whether the bug was noticed; or nothing, where there was none."""
        return bool(self.caught) if self.sabotage else not self.found


class SabotagedStack(ChaosStack):
    """One replica of every service, each of which can be started with a bug."""

    def __init__(self, directory: Path) -> None:
        """Make it; nothing runs before it is entered."""
        super().__init__(directory, replicas={}, settings=_SETTINGS)
        self._file = directory.resolve() / "sabotage"
        self._specs = [self._sabotaged(spec) for spec in self._specs]

    def begin(self, sabotage: Sabotage) -> None:
        """Start the service anew, with the bug."""
        self._file.write_text(sabotage.name)
        self.restart(self.service_of(sabotage))

    def end(self, sabotage: Sabotage) -> None:
        """Start the service anew, without it."""
        self._file.unlink()
        self.restart(self.service_of(sabotage))

    def service_of(self, sabotage: Sabotage) -> str:
        """Return the name of the service that has the bug."""
        return next(spec.name for spec in self._specs if spec.command[-1] == sabotage.module)

    def _sabotaged(self, spec: ServiceSpec) -> ServiceSpec:
        *python, module = spec.command
        environment = {FILE_VARIABLE: str(self._file), "PYTHONPATH": str(_PLACE)}
        return spec.model_copy(
            update={
                "command": (*python, "headrace_chaos.sabotage", module),
                "env": {**spec.env, **environment},
            }
        )


def try_all(directory: Path, only: str = "") -> Iterator[Verdict]:
    """Run the workload without a bug, then with one after the other.

    Args:
        directory: of the stack.
        only: bugs with this in their names.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with SabotagedStack(directory / "stack") as stack:
        trials = Trials(stack, Ledger(directory / "ledger.jsonl"))
        yield trials.run(None)
        for sabotage in [each for each in SABOTAGES if only in each.name]:
            stack.begin(sabotage)
            verdict = trials.run(sabotage)
            stack.end(sabotage)
            trials.settle()
            yield verdict


class Trials:
    """Runs the workload against a stack again and again, and tells what is new."""

    def __init__(self, stack: SabotagedStack, ledger: Ledger) -> None:
        """Make it."""
        self._stack = stack
        self._ledger = ledger
        self._known: set[tuple[ViolationKind, str]] = set()
        self._number = 0

    def run(self, sabotage: Sabotage | None) -> Verdict:
        """Run the workload once, and return what the checker finds that it did not before."""
        self._number += 1
        plan = make_plan(self._number, jobs=_JOBS, seconds=_SECONDS, shares=_SHARES)
        self._work(plan, sabotage)
        return Verdict(sabotage, self._news())

    def settle(self) -> None:
        """Let the service without its bug mend what it can, and take the rest as known."""
        self._wait_quiet()
        self._news()

    def _work(self, plan: list[PlannedJob], sabotage: Sabotage | None) -> None:
        name = f"trial-{os.getpid()}-{self._number}"
        with Workload(
            self._stack.endpoints, self._ledger, plan, run=name, follow_seconds=_FOLLOW_SECONDS
        ) as workload:
            workload.start()
            if sabotage is not None and sabotage.kills:
                self._kill(self._stack.service_of(sabotage))
            workload.wait(_DONE_SECONDS)
            self._wait_quiet()
            workload.finish_following(_LAST_SECONDS)

    def _kill(self, name: str) -> None:
        for _ in range(_KILLS):
            wait_until(lambda: self._stack.is_ready(name), seconds=_DONE_SECONDS)
            time.sleep(_ALIVE_SECONDS)
            self._stack.kill(name)

    def _wait_quiet(self) -> None:
        """Wait until nothing is under way any more, or until nothing moves any more."""
        before: list[str] = []
        deadline = 0.0
        while left := quiescent(self._stack.endpoints, self._ledger):
            if left != before:
                before, deadline = left, time.monotonic() + _STANDSTILL_SECONDS
            elif time.monotonic() > deadline:
                return
            time.sleep(_LOOK_SECONDS)

    def _news(self) -> list[Violation]:
        found = check(gather(self._stack.endpoints), self._ledger.promises())
        known, self._known = self._known, {_identity(each) for each in found}
        return [each for each in found if _identity(each) not in known]


def _identity(violation: Violation) -> tuple[ViolationKind, str]:
    """A job that is stuck may be stuck elsewhere later, and is the same violation."""
    return violation.kind, violation.job_id or violation.sentence
