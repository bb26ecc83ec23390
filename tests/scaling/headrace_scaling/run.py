"""A run: one fleet, and one service after the other on it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from headrace_scaling.ending import Ending
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
        size: of batches, as part of the usual.
        kills: how replicas end in the midst of their work: False in good order, True killed.
    """

    directory: Path
    services: Sequence[str] = SERVICES
    counts: Sequence[int] = COUNTS
    size: float = 1
    kills: Sequence[bool] = (False, True)


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
            DISPATCHER: lambda: [DispatchOverHttp(scene, sink), DispatchOverSqs(scene)],
            RESULTS: lambda: [Reports(scene), EventStreams(scene)],
            PREPROCESSOR: lambda: [CameraJobs(scene, playlist)],
            ANALYSIS: lambda: [Analyses(scene, sink)],
        }
        run = _Run(scene, options, say, stack.enter_context(ThreadPoolExecutor(4, "aside")))
        finishing: list[Future[list[Row]]] = []
        schedulers = None
        for number, service in enumerate(options.services):
            following = options.services[number + 1 : number + 2]
            if service == SCHEDULER:
                schedulers = run.schedulers(Schedules(scene, say), following)
            else:
                finishing.append(run.service(service, makers[service](), following))
        return Outcome(tuple(row for each in finishing for row in each.result()), schedulers)


def _environment(spec: ServiceSpec, plugins: Path) -> Mapping[str, str]:
    """Let those that look at schedules know the target of the drill's."""
    if spec.name.startswith((DISPATCHER, SCHEDULER)):
        return {"PYTHONPATH": f"{plugins}:{_DRILL}"}
    return {}


class _Run:
    """Tries one service after the other.

    What waits for time-outs, and the first replica of the next service, do so beside: they take
    little from what is measured meanwhile, and the run would be twice as long.
    """

    def __init__(
        self, scene: Scene, options: Options, say: Callable[[str], None], aside: ThreadPoolExecutor
    ) -> None:
        self._scene = scene
        self._fleet = scene.fleet
        self._options = options
        self._say = say
        self._aside = aside
        self._starting: Future[list[str]] | None = None
        self._may_hold = why_no_share() is None
        #: By service, the replicas that are warm.
        self._warm: dict[str, list[str]] = {}

    def service(
        self, service: str, works: Sequence[Work], following: Sequence[str]
    ) -> Future[list[Row]]:
        """Try a service; what comes of the last replica that is killed is awaited beside."""
        self._await_start()
        for name in {name for work in works for name in work.needs}:
            if not self._fleet.running(name):
                self._fleet.scale(name, 1)
        trials = [Trial(work, self._say, size=self._options.size) for work in works]
        for number, count in enumerate(self._options.counts):
            self._scale(works, count)
            # There and back: what has to be set for a kind of work is set half as often.
            for trial in trials if number % 2 == 0 else trials[::-1]:
                trial.work.prepare()
                trial.batch()
        self._begin_next(following)
        endings = []
        together = trials if works[0].may_be_together else trials[-1:]
        for kill in self._options.kills:
            if kill:
                self._scale(works, 2)
            together[-1].work.prepare()
            endings.append(ending := Ending(together, kill))
            ending.begin()
            if not kill:
                ending.finish()
        return self._aside.submit(self._finish, service, trials, endings)

    def schedulers(self, schedules: Schedules, following: Sequence[str]) -> Schedulers:
        """Try the schedulers; some go on."""
        self._await_start()
        firings, take_overs = [], []
        for count in self._options.counts:
            self._fleet.scale(SCHEDULER, count)
            firings.append(schedules.batch())
        self._begin_next(following)
        for kill in self._options.kills:
            self._fleet.scale(SCHEDULER, 2)
            take_overs.append(schedules.take_over(kill=kill))
        return Schedulers(tuple(firings), tuple(take_overs))

    def _finish(
        self, service: str, trials: Sequence[Trial], endings: Sequence[Ending]
    ) -> list[Row]:
        for ending in endings[-1:]:
            ending.finish()
        self._fleet.scale(service, 0)
        return [trial.row() for trial in trials]

    def _begin_next(self, following: Sequence[str]) -> None:
        for service in following:
            self._starting = self._aside.submit(self._fleet.scale, service, 1)

    def _await_start(self) -> None:
        if self._starting is not None:
            self._starting.result()

    def _scale(self, works: Sequence[Work], count: int) -> None:
        """Have so many replicas, that are warm and held to their share of a core."""
        service = works[0].service
        warm = set(self._warm.get(service, ()))
        running = self._fleet.scale(service, count)
        if new := set(running) - warm:
            works[0].prepare()
            works[0].warm_up(new)
        self._warm[service] = running
        cores = next((work.cores for work in works if work.cores is not None), None)
        if cores is not None and self._may_hold:
            self._fleet.hold(service, cores)
