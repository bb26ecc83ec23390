"""One run from start to end: workload, faults, healing, quiet, and the checker's verdict."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import structlog

from headrace_chaos.canary import Canaries
from headrace_chaos.checker import check
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.facts import Facts
from headrace_chaos.gathering import gather, quiescent
from headrace_chaos.injector import Injector, Outcome
from headrace_chaos.ledger import Ledger
from headrace_chaos.plan import Shares, make_plan
from headrace_chaos.report import Report
from headrace_chaos.resting import let_house_keeping_rest
from headrace_chaos.schedule import PlannedFault, Targets, plan_faults
from headrace_chaos.stack import ChaosStack, chosen_specs
from headrace_chaos.workload import Workload
from headrace_local.errors import LocalStackError, ToolInstallError
from headrace_local.tools import ensure_faketime

_HTTP: Final = ("s3", "sqs", "swift", "keystone", "results", "analysis-server")
_READY_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 1.0
#: Services whose clocks jump; see `ChaosStack`.
_CLOCKED: Final = 2
#: So often in a row everything must be at rest.
_QUIET_LOOKS: Final = 3
#: Both ways to the analysis servers are broken, so jobs go both ways; some copies are compared.
_DIVISION: Final = {
    "sqs_percent": 70,
    "shadow_percent": 5,
    "auto_rollback": False,
    "reason": "chaos",
}
#: Nothing is slower than this once all faults are over: see `bounds.SETTINGS`.
_STANDSTILL_SECONDS: Final = 150.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        directory: of the stack, the ledger and the report.
        seed: of everything that is drawn.
        jobs: of the workload.
        faults: how many.
        seconds: over which both are spread.
        longest_fault: seconds.
        standstill: seconds without any progress after which the wait for quiet is given up.
        shares: of the workload.
        command: repeats the run.
    """

    directory: Path
    seed: int
    jobs: int
    faults: int
    seconds: float
    longest_fault: float = 15.0
    standstill: float = _STANDSTILL_SECONDS
    shares: Shares = field(default_factory=Shares)
    command: Sequence[str] = ()


class Driver:
    """Runs chaos against a stack of its own."""

    def __init__(
        self,
        options: Options,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it.

        Args:
            options: what to run.
            say: gets a line whenever something has happened, from any thread.
        """
        self._options = options
        self._say = say
        self._notes: list[str] = []
        self._seconds: dict[str, float] = {}

    def run(self) -> Report:
        """Run, and return what it has shown; the stack is gone then.

        Raises:
            LocalStackError: the stack did not start.
        """
        self._options.directory.mkdir(parents=True, exist_ok=True)
        with self._timed("start"):
            stack = ChaosStack(
                self._options.directory / "stack",
                faketime=self._faketime(),
                clocked=self._clocked(),
            )
            stack.__enter__()
        try:
            return self._with(stack)
        finally:
            with self._timed("stop"):
                stack.__exit__(None, None, None)

    def _clocked(self) -> list[str]:
        """Choose the services whose clocks jump."""
        chance = random.Random(f"clocks-{self._options.seed}")  # noqa: S311 - a plan is no secret
        return chance.sample([spec.name for spec in chosen_specs()], _CLOCKED)

    def _faketime(self) -> Path | None:
        try:
            return ensure_faketime()
        except ToolInstallError as error:
            self._notes.append(f"no clock could be set: {error}")
            return None

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - began

    def _with(self, stack: ChaosStack) -> Report:
        options, endpoints = self._options, stack.endpoints
        _divide(endpoints)
        ledger = Ledger(options.directory / "ledger.jsonl")
        schedule = self._schedule(stack)
        plan = make_plan(
            options.seed, jobs=options.jobs, seconds=options.seconds, shares=options.shares
        )
        canaries = Canaries(endpoints, ledger, seed=options.seed, patience=options.standstill)
        injector = Injector(stack, ledger, canaries, schedule, tell=self._tell)
        try:
            with Workload(endpoints, ledger, plan, run=f"seed-{options.seed}") as workload:
                canaries.start(cameras=any(fault.affects_cameras for fault in schedule))
                workload.start()
                injector.start()
                with self._timed("faults"):
                    injector.wait()
                with self._timed("heal"):
                    self._heal(stack)
                with self._timed("sending"):
                    workload.wait(options.seconds + options.standstill)
                with self._timed("settling"):
                    unsettled = self._settle(endpoints, ledger)
                workload.finish_following(options.standstill)
                answers, ways = workload.answers, workload.accepted
        finally:
            injector.stop()
            canaries.close()
        with self._timed("resting"):
            let_house_keeping_rest(endpoints, patience=options.standstill)
        with self._timed("checking"):
            facts, promises = gather(endpoints), ledger.promises()
            violations = check(facts, promises)
        ledger.close()
        return Report(
            seed=options.seed,
            command=options.command,
            jobs=_by_state(facts),
            ways={str(way): count for way, count in ways.items()},
            outcomes=sorted(injector.outcomes, key=lambda outcome: outcome.planned.number),
            violations=violations,
            unsettled=unsettled,
            answers=dict(answers),
            failed_requests=_failed_requests(stack),
            seconds=self._seconds,
            notes=self._notes,
        )

    def _schedule(self, stack: ChaosStack) -> list[PlannedFault]:
        options = self._options
        targets = Targets(
            servers=stack.servers,
            services=stack.services,
            proxies=list(stack.proxies),
            http=[name for name in _HTTP if name in stack.proxies],
            clocked=stack.clocked,
        )
        return plan_faults(
            options.seed,
            targets,
            faults=options.faults,
            seconds=options.seconds,
            longest=options.longest_fault,
        )

    def _tell(self, outcome: Outcome) -> None:
        what = "did not happen" if not outcome.happened else "was not recovered from"
        if outcome.recovery is not None:
            what = f"recovered from in {outcome.recovery:.1f} s"
        self._say(f"[{outcome.ended:6.1f} s] {outcome.planned}: {what}")

    def _heal(self, stack: ChaosStack) -> None:
        """Put an end to everything, and wait until all processes are there."""
        stack.hosts.heal()
        names = [*stack.servers, *stack.services]
        for name in names:
            stack.thaw(name)
        for name in stack.clocked:
            stack.set_clock(name, 0)
        deadline = time.monotonic() + _READY_SECONDS
        while missing := [name for name in names if not stack.is_ready(name)]:
            if time.monotonic() > deadline:
                raise LocalStackError(f"not ready long after the last fault: {missing}")
            time.sleep(_LOOK_SECONDS)

    def _settle(self, endpoints: Endpoints, ledger: Ledger) -> list[str]:
        """Wait until nothing is under way; return what still is when nothing moves any more."""
        seen: list[str] = []
        quiet, changed = 0, time.monotonic()
        while quiet < _QUIET_LOOKS:
            left = quiescent(endpoints, ledger)
            quiet = 0 if left else quiet + 1
            if left != seen:
                changed, seen = time.monotonic(), left
                self._say(f"under way: {'; '.join(left) or 'nothing'}")
            if left and time.monotonic() - changed > self._options.standstill:
                return left
            time.sleep(_LOOK_SECONDS)
        return []


def _divide(endpoints: Endpoints) -> None:
    """Send jobs over both transports."""
    url = f"{endpoints.service('dispatcher')}/rollout"
    httpx.put(
        url, json=_DIVISION, headers=endpoints.headers, timeout=30, trust_env=False
    ).raise_for_status()


def _by_state(facts: Facts) -> dict[str, int]:
    return dict(
        Counter(
            f"{job.status} ({job.error_code})" if job.error_code else str(job.status)
            for job in facts.jobs.values()
        )
    )


def _failed_requests(stack: ChaosStack) -> dict[str, int]:
    traffic = [proxy.traffic for proxy in stack.proxies.values()]
    return {
        "connections": sum(each.connections for each in traffic),
        "requests failed": sum(each.failed for each in traffic),
        "answers lost": sum(each.unanswered for each in traffic),
    }
