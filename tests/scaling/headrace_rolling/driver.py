"""All parts: a rolling restart, and upgrades and roll-backs from and to earlier versions."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from headrace_chaos.bounds import SETTINGS
from headrace_chaos.cameras import Cameras
from headrace_scaling.fleet import SCHEDULER, Fleet, deployments

from headrace_local.parts import ALL_PARTS, Part
from headrace_local.services import DISPATCHER, INGEST, RESULTS, ServiceSpec
from headrace_rolling.account import Account
from headrace_rolling.clockwork import declare
from headrace_rolling.load import LOOKS, SHARES, Pace
from headrace_rolling.releases import (
    BEFORE_SCHEDULES,
    PREVIOUS,
    Release,
    folders_of,
    unpack,
)
from headrace_rolling.rolling import Replaced, Rolling

#: Above the time for which the clients here keep an idle connection (`clients.KEEP_SECONDS`).
_DRAIN_SECONDS: Final = 6
#: A replica that closes everything as soon as it is told to stop.
HASTY: Final = "hasty"
#: Services whose replica is one.
PLANTED: Final = (INGEST, RESULTS)
#: Beside the old code nobody asks for what it does not know yet.
_BEFORE_SCHEDULES_SHARES: Final = replace(SHARES, later=0.0)
_BEFORE_SCHEDULES_LOOKS: Final = tuple(look for look in LOOKS if not look[1].startswith("/sched"))


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        directory: of the stack and the ledger.
        parts: halves of the product.
        services: that run; all of the parts unless given.
        restarted: that are replaced; all that run unless given.
        replicas: of each service during the rolling restart.
        releases: earlier versions to go back to and to come from.
        pace: of the load.
        drain_seconds: see DRAIN_SECONDS.
        pre_stop_seconds: see `Fleet`.
    """

    directory: Path
    parts: Sequence[Part] = ALL_PARTS
    services: Sequence[str] = ()
    restarted: Sequence[str] = ()
    replicas: int = 2
    releases: Sequence[Release] = (PREVIOUS, BEFORE_SCHEDULES)
    pace: Pace = field(default_factory=Pace)
    drain_seconds: float = _DRAIN_SECONDS
    pre_stop_seconds: float = 1.0


class Driver:
    """Brings a fleet up, and does all parts one after the other."""

    def __init__(self, options: Options, *, say: Callable[[str], None] = lambda _: None) -> None:
        """Make it.

        Args:
            options: what to run.
            say: told what happens.

        Raises:
            NoHistoryError: the code of an earlier version cannot be had.
        """
        self._options = options
        self._say = say
        options.directory.mkdir(parents=True, exist_ok=True)
        trees = options.directory / "releases"
        self._trees = {release.name: unpack(release, trees) for release in options.releases}
        self._kinds = [*self._trees, HASTY]
        self._plugin = declare(options.directory / "plugin")

    def run(self) -> Iterator[Account]:
        """Yield the account of each part, once it is over.

        Raises:
            LocalStackError: the stack, or a replica, did not start.
        """
        options = self._options
        names = [spec.name for spec in deployments(options.parts)]
        most = options.replicas + len(options.releases) + len([HASTY])
        with ExitStack() as stack:
            cameras: tuple[str, ...] = ()
            if Part.CCTV in options.parts:
                cameras = stack.enter_context(Cameras()).urls
            fleet = stack.enter_context(
                Fleet(
                    options.directory / "stack",
                    parts=options.parts,
                    most=dict.fromkeys(names, most),
                    settings={**SETTINGS, "DRAIN_SECONDS": f"{options.drain_seconds:g}"},
                    environment=self._environment,
                    pre_stop_seconds=options.pre_stop_seconds,
                )
            )
            services = options.services or names
            for service in services:
                fleet.scale(service, options.replicas)
            self._say("all replicas are ready")
            rolling = Rolling(fleet, options.directory, cameras)
            stack.callback(rolling.close)
            yield self._restart(fleet, rolling, options.restarted or services)
            for service in services:
                fleet.scale(service, 1)
            for release in options.releases:
                yield self._there_and_back(fleet, rolling, release)
            yield self._planted(fleet, rolling)

    def _restart(self, fleet: Fleet, rolling: Rolling, services: Sequence[str]) -> Account:
        """Replace every replica by one of the same kind."""

        def steps(replaced: Replaced) -> None:
            rolling.replace_all(replaced, services, self._present(fleet))

        return rolling.run("rolling restart", self._options.pace, steps)

    def _planted(self, fleet: Fleet, rolling: Rolling) -> Account:
        """Replace replicas that close their connections at once: the account has to show it."""
        for service in PLANTED:
            (old,) = fleet.running(service)
            fleet.replace(service, old, by=self._name(service, HASTY))
        fleet.pre_stop_seconds = 0

        def steps(replaced: Replaced) -> None:
            rolling.replace_all(replaced, PLANTED, self._present(fleet))

        shares = replace(self._options.pace.shares, follow=0)
        pace = replace(self._options.pace, shares=shares)
        return rolling.run("planted: no drain", pace, steps, is_planted=True)

    def _there_and_back(self, fleet: Fleet, rolling: Rolling, release: Release) -> Account:
        """Go back to an earlier version's code, then forward again; the schema stays the new."""

        def steps(replaced: Replaced) -> None:
            services = self._options.restarted or fleet.services
            rolling.replace_all(
                replaced, services, lambda service: self._name(service, release.name)
            )
            self._say(f"{release.name}: rolled back")
            rolling.replace_all(replaced, services, self._present(fleet))

        pace = replace(self._options.pace, keeps=False)
        if release is BEFORE_SCHEDULES:
            pace = replace(pace, shares=_BEFORE_SCHEDULES_SHARES, looks=_BEFORE_SCHEDULES_LOOKS)
        again = release.sends_again is not None
        return rolling.run(f"{release.name} and back", pace, steps, sends_again=again)

    def _present(self, fleet: Fleet) -> Callable[[str], str]:
        """Return what chooses a name whose code is the present one, and which does not run."""

        def choose(service: str) -> str:
            numbered = (f"{service}-{number}" for number in range(2, self._options.replicas + 2))
            running = fleet.running(service)
            return next(name for name in (service, *numbered) if name not in running)

        return choose

    def _name(self, service: str, kind: str) -> str:
        """Return the name of the replica of a service that is of an earlier version, or hasty."""
        return f"{service}-{self._options.replicas + 2 + self._kinds.index(kind)}"

    def _environment(self, spec: ServiceSpec) -> Mapping[str, str]:
        """Return what a replica is otherwise than the others, by its name: see `_name`."""
        base, _, number = spec.name.rpartition("-")
        position = int(number) - self._options.replicas - 2 if number.isdigit() else -1
        kind = self._kinds[position] if position >= 0 else ""
        environment = {"DRAIN_SECONDS": "0"} if kind == HASTY else {}
        paths = [*folders_of(self._trees[kind])] if kind in self._trees else []
        if {spec.name, base} & {DISPATCHER, SCHEDULER}:
            paths += self._plugin
        return environment | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
