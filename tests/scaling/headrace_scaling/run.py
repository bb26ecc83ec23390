"""A run: one fleet, and one service after the other on it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace_chaos.cameras import Cameras
from headrace_drill.target import declare

from headrace_local.parts import Part
from headrace_local.services import (
    ANALYSIS,
    DISPATCHER,
    INGEST,
    PREPROCESSOR,
    RESULTS,
    ServiceSpec,
)
from headrace_scaling.cpu import why_no_share
from headrace_scaling.fleet import SCHEDULER, Fleet
from headrace_scaling.outcomes import Outcome, Row, Schedulers
from headrace_scaling.scene import Scene
from headrace_scaling.sink import ANALYSE, Sink
from headrace_scaling.trial import Trial
from headrace_scaling.work import Work
from headrace_scaling.works.analyses import Analyses
from headrace_scaling.works.cameras import CameraJobs
from headrace_scaling.works.dispatching import DispatchOverHttp, DispatchOverSqs
from headrace_scaling.works.reports import Reports
from headrace_scaling.works.schedules import Schedules
from headrace_scaling.works.streams import STREAMS, EventStreams
from headrace_scaling.works.uploads import Uploads

#: Times after which others go on with what a dead replica had in hand, shorter than by default so
#: that a run has an end.
SETTINGS: Final = {
    "DRAMATIQ_HEARTBEAT_TIMEOUT_SECONDS": "8",
    "LOST_AFTER_SECONDS": "5",
    "FIRING_LOST_AFTER_SECONDS": "5",
    "INBOX_RETRY_SECONDS": "3",
    "INBOX_SWEEP_SECONDS": "1",
    "REDIS_VISIBILITY_TIMEOUT": "6",
    "ANALYSIS_VISIBILITY_TIMEOUT_SECONDS": "6",
    "SCHEDULER_LEASE_SECONDS": "6",
    # Nobody answers the dispatchers: none of their jobs is to be sent again for that.
    "ANALYSIS_DEADLINE_SECONDS": "21600",
    # Nine tenths of the work on so short a recording.
    "SPEECH_PLAIN_PLOT": "true",
    # Few, so that more replicas have room for more.
    "SSE_MAX_CLIENTS": str(STREAMS),
}
#: In Kubernetes as here, nobody needs more replicas to show how it goes.
COUNTS: Final = (1, 2, 4)
SERVICES: Final = (INGEST, DISPATCHER, SCHEDULER, RESULTS, PREPROCESSOR, ANALYSIS)
_ANSWER_SECONDS: Final = 0.5
_DRILL: Final = Path(__file__).parents[2] / "drill"


@dataclass(frozen=True)
class Options:
    """What a run is told.

    Attributes:
        directory: the stack's.
        services: names in the fleet of those to try.
        counts: of replicas, the first is 1.
        hand_overs: whether replicas are killed and stopped.
    """

    directory: Path
    services: Sequence[str] = SERVICES
    counts: Sequence[int] = COUNTS
    hand_overs: bool = True


def run(options: Options, *, say: Callable[[str], None]) -> Outcome:
    """Do it, and return what was found."""
    with ExitStack() as stack:
        sink = stack.enter_context(Sink(answer_seconds=_ANSWER_SECONDS))
        parts, playlist = [Part.AUDIO], ""
        if PREPROCESSOR in options.services:
            parts.append(Part.CCTV)
            playlist = stack.enter_context(Cameras()).urls[0]
        plugins = options.directory / "plugins"
        declare(plugins)
        fleet = Fleet(
            options.directory,
            parts=parts,
            most={service: max(options.counts) for service in options.services},
            settings={**SETTINGS, "ANALYSIS_SERVER_URL": f"{sink.url}{ANALYSE}"},
            environment=lambda spec: _environment(spec, plugins),
        )
        scene = stack.enter_context(Scene(stack.enter_context(fleet)))
        say("the servers run")
        makers: Mapping[str, Callable[[], Sequence[Work]]] = {
            INGEST: lambda: [Uploads(scene)],
            DISPATCHER: lambda: [DispatchOverSqs(scene), DispatchOverHttp(scene, sink)],
            RESULTS: lambda: [Reports(scene), EventStreams(scene)],
            PREPROCESSOR: lambda: [CameraJobs(scene, playlist)],
            ANALYSIS: lambda: [Analyses(scene, sink)],
        }
        rows = [
            row
            for service in options.services
            if service != SCHEDULER
            for row in _try(scene, service, makers[service](), options, say)
        ]
        schedulers = None
        if SCHEDULER in options.services:
            schedulers = _try_schedulers(Schedules(scene, say), options)
        return Outcome(tuple(rows), schedulers)


def _environment(spec: ServiceSpec, plugins: Path) -> Mapping[str, str]:
    """Let those that look at schedules know the target of the drill's."""
    if spec.name.startswith((DISPATCHER, SCHEDULER)):
        return {"PYTHONPATH": f"{plugins}:{_DRILL}"}
    return {}


def _try(
    scene: Scene,
    service: str,
    works: Sequence[Work],
    options: Options,
    say: Callable[[str], None],
) -> list[Row]:
    fleet = scene.fleet
    needs = {name: count for work in works for name, count in work.needs.items()}
    for name, count in needs.items():
        fleet.scale(name, count)
    trials = [Trial(work, say) for work in works]
    for count in options.counts:
        _scale(scene, works, count)
        for trial in trials:
            trial.work.prepare()
            trial.batch()
    for kill in (True, False) if options.hand_overs else ():
        for trial in trials:
            _scale(scene, works, 2)
            trial.work.prepare()
            trial.hand_over(kill=kill)
    for name in (service, *needs):
        fleet.scale(name, 0)
    return [trial.row() for trial in trials]


def _scale(scene: Scene, works: Sequence[Work], count: int) -> None:
    """Have so many replicas, that are warm and held to their share of a core."""
    fleet, first = scene.fleet, works[0]
    before = fleet.running(first.service)
    new = set(fleet.scale(first.service, count)) - set(before)
    if new:
        first.prepare()
        first.warm_up()
    cores = next((work.cores for work in works if work.cores is not None), None)
    if cores is not None and not why_no_share():
        fleet.hold(first.service, cores)


def _try_schedulers(schedules: Schedules, options: Options) -> Schedulers:
    fleet, firings, take_overs = schedules.scene.fleet, [], []
    for count in options.counts:
        fleet.scale(SCHEDULER, count)
        firings.append(schedules.batch())
    for kill in (True, False) if options.hand_overs else ():
        fleet.scale(SCHEDULER, 2)
        take_overs.append(schedules.take_over(kill=kill))
    fleet.scale(SCHEDULER, 0)
    return Schedulers(tuple(firings), tuple(take_overs))
