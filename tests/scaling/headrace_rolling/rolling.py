"""One part of a run: load, replicas that are replaced meanwhile, and the account of it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from headrace_chaos.checker import check
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.gathering import gather, quiescent
from headrace_chaos.ledger import Ledger
from headrace_chaos.looking_database import open_database
from headrace_chaos.looking_queues import redis_of
from headrace_chaos.resting import without_house_keeping
from headrace_chaos.violations import Violation
from headrace_scaling.fleet import SCHEDULER, Fleet

from headrace_local.ports import LOOPBACK
from headrace_local.services import ANALYSIS
from headrace_rolling.account import Account
from headrace_rolling.clockwork import Clockwork
from headrace_rolling.load import Load, Pace
from headrace_rolling.tally import Tally

#: Services at a time, as a cluster replaces all of them at once; more than the cores here are few
#: enough for.
_AT_ONCE: Final = 3
#: Nothing under way is slower than this with the settings of these runs.
_STANDSTILL_SECONDS: Final = 240.0
#: As long clients get whose requests have failed.
_PLANTED_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
#: So often in a row everything must be at rest.
_QUIET_LOOKS: Final = 3
#: Rules of the drill's check that a message breaks which two versions sent; the first counts it.
_SENT_AGAIN: Final = ("a firing had two effects", "a message of nobody's")
#: What the places in SQS have in their names.
_SQS: Final = "SQS "
_UNANSWERED: Final = b'"analysis.callback_unreachable"'


@dataclass
class Replaced:
    """Replicas that were replaced, by service."""

    counts: Counter[str]

    @classmethod
    def none(cls) -> Self:
        """Begin at nothing."""
        return cls(Counter())


class Rolling:
    """Runs parts on one fleet, one after the other."""

    def __init__(self, fleet: Fleet, directory: Path, cameras: tuple[str, ...]) -> None:
        """Make it for a fleet whose replicas run.

        Args:
            fleet: see `headrace_scaling.fleet`.
            directory: of the ledger.
            cameras: URLs of playlists.
        """
        self._fleet = fleet
        self._cameras = cameras
        self._ledger = Ledger(directory / "ledger.jsonl")
        self._known: set[Violation] = set()
        self._ended: Counter[str] = Counter()
        self._webhooks = (0, 0)
        self._number = 0

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def run(
        self,
        title: str,
        pace: Pace,
        steps: Callable[[Replaced], None],
        *,
        is_planted: bool = False,
        sends_again: bool = False,
    ) -> Account:
        """Do `steps` under load, and return what became of everything.

        Args:
            title: what the account calls it.
            pace: of the load.
            steps: replaces replicas, see `replace_all`.
            is_planted: whether requests have to fail. What they were to do is not done then, and
                nobody waits for it.
            sends_again: whether a firing's message may come twice, see `Release.sends_again`.
        """
        self._number += 1
        endpoints, tally, replaced = self._endpoints(), Tally(), Replaced.none()
        database, redis = open_database(endpoints.settings), redis_of(endpoints)
        clockwork = Clockwork(database, redis, number=self._number)
        load = Load(
            endpoints,
            self._ledger,
            tally,
            run=f"rolling-{self._number}",
            pace=replace(pace, seed=pace.seed + self._number),
            cameras=self._cameras,
        )
        with load:
            load.start()
            if self._fleet.running(SCHEDULER):
                clockwork.start()
            began = time.monotonic()
            steps(replaced)
            seconds = time.monotonic() - began
            done = load.finish(_PLANTED_SECONDS if is_planted else _STANDSTILL_SECONDS)
            firings, found = clockwork.finish(_STANDSTILL_SECONDS)
            unsettled = [] if is_planted else self._settle(endpoints)
        redis.close()
        database.close()
        violations, ended, webhooks = self._news(endpoints)
        return Account(
            title=title,
            is_planted=is_planted,
            seconds=seconds,
            replaced=replaced.counts,
            requests=tally.rows,
            failures=tally.failures,
            webhooks=webhooks,
            is_drained=pace.keeps,
            followed=load.followed,
            connections=load.connections,
            accepted={str(way): count for way, count in load.accepted.items()},
            ended=ended,
            violations=[] if is_planted else violations,
            firings=firings,
            misfired=[
                str(each) for each in found if not (sends_again and each.rule in _SENT_AGAIN)
            ],
            sent_again=sum(each.cases for each in found if each.rule == _SENT_AGAIN[0]),
            unsettled=[*unsettled, *([] if done else ["clients"])],
        )

    def replace_all(
        self, replaced: Replaced, services: Sequence[str], choose: Callable[[str], str]
    ) -> None:
        """Replace every replica of the services, one at a time of each, some services at once.

        Args:
            replaced: counts.
            services: which.
            choose: returns the name of the next new one of a service.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [
                pool.submit(self._replace, service, replaced, choose) for service in services
            ]:
                done.result()

    def _replace(self, service: str, replaced: Replaced, choose: Callable[[str], str]) -> None:
        for old in self._fleet.running(service):
            self._fleet.replace(service, old, by=choose(service))
            replaced.counts[service] += 1

    def _endpoints(self) -> Endpoints:
        state = self._fleet.state()
        has_swift = any(each.name == "swift" for each in state.processes)
        return Endpoints(
            directory=self._fleet.directory,
            api_key=self._fleet.api_key,
            services={
                name: self._fleet.service(name)
                for name in self._fleet.services
                if self._fleet.running(name)
            },
            settings=state.env,
            swift_url=f"http://{LOOPBACK}:{state.ports['swift']}" if has_swift else "",
            proxied={},
        )

    def _settle(self, endpoints: Endpoints) -> list[str]:
        """Wait until nothing is under way; return what still is when nothing moves any more."""
        seen: list[str] = []
        quiet, changed = 0, time.monotonic()
        while quiet < _QUIET_LOOKS:
            left = [each for each in quiescent(endpoints, self._ledger) if self._is_taken(each)]
            quiet = 0 if left else quiet + 1
            if left != seen:
                changed, seen = time.monotonic(), left
            if left and time.monotonic() - changed > _STANDSTILL_SECONDS:
                return left
            time.sleep(_LOOK_SECONDS)
        return []

    def _news(self, endpoints: Endpoints) -> tuple[list[Violation], Counter[str], tuple[int, int]]:
        """Return what is there now and was not there after the part before."""
        facts = gather(endpoints)
        messages = without_house_keeping(facts.messages).items()
        taken = {place: count for place, count in messages if self._is_taken(place)}
        facts = replace(facts, messages=taken)
        found = check(facts, self._ledger.promises())
        news = [violation for violation in found if violation not in self._known]
        self._known |= set(found)
        ended = Counter(job.status for job in facts.jobs.values())
        sent = sum(report.source in {"webhook", "callback"} for report in facts.reports)
        webhooks = (sent, self._unanswered())
        told = ended - self._ended, (sent - self._webhooks[0], webhooks[1] - self._webhooks[1])
        self._ended, self._webhooks = ended, webhooks
        return news, *told

    def _is_taken(self, place: str) -> bool:
        """Whether somebody works off what lies there: SQS is for analysis servers, if any run."""
        return bool(self._fleet.running(ANALYSIS)) or _SQS not in place

    def _unanswered(self) -> int:
        """Count the webhooks that an analysis server got no answer to."""
        logs = (self._fleet.directory / "logs").glob("analysis-server*.log*")
        return sum(path.read_bytes().count(_UNANSWERED) for path in logs)
