"""From phases to costs: what is used is linear in the pieces of work, and idle pods cost too.

Ordinary least squares on phases of which each has mainly one kind of work, as in the
*operational analysis* of Denning and Buzen (The Operational Analysis of Queueing Network Models,
ACM Computing Surveys 10(3), 1978): the service demand D of a resource for a piece of work is busy
time by completions (the utilisation law U = X D). Rows are weighed by what they use, so that a
long phase counts no more than a short one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_capacity.measurement import (
    ROWS,
    S3,
    SQS,
    SWIFT,
    Measurement,
    Phase,
    Service,
    Work,
    cpu_of,
)

_Floats = NDArray[np.float64]
_AUDIO_JOBS: Final = (Work.JOB_SQS, Work.JOB_HTTP)
_STREAMS: Final = (Work.STREAM, Work.WATCHED_SECOND, Work.STREAM_EVENT)
_CAMERAS: Final = (Work.CAMERA_JOB, Work.CAMERA_SECOND)
#: Who has a hand in what; a service's processor time knows nothing of the others' work. What is
#: not named here (Postgres, Redis) may be used by any work but a second of somebody's film.
_TOUCHED_BY: Final[Mapping[str, tuple[Work, ...]]] = {
    cpu_of(Service.INGEST): (Work.UPLOAD, Work.UPLOAD_MIB, Work.CAMERA_JOB, Work.PURGE),
    cpu_of(Service.DISPATCHER): (*_AUDIO_JOBS, Work.FIRING),
    cpu_of(Service.RESULTS): (
        *_AUDIO_JOBS, Work.PROGRESS, Work.HEARTBEAT, *_STREAMS, Work.CAMERA_JOB,
    ),
    cpu_of(Service.ANALYSIS): (*_AUDIO_JOBS, Work.PROGRESS),
    cpu_of(Service.PREPROCESSOR): _CAMERAS,
    f"{ROWS}jobs": (Work.UPLOAD, Work.CAMERA_JOB),
    f"{ROWS}job_events": (Work.UPLOAD, *_AUDIO_JOBS, Work.PROGRESS, Work.CAMERA_JOB),
    f"{ROWS}webhook_inbox": (*_AUDIO_JOBS, Work.PROGRESS),
    f"{ROWS}firings": (Work.FIRING,),
    SWIFT: (Work.CAMERA_JOB,),
    # These depend on sizes and on the rate: `requests` has their rules.
    SQS: (),
    S3: (),
}  # fmt: skip
_ALL_BUT_FILM: Final = tuple(
    work for work in Work if work not in {Work.CAMERA_SECOND, Work.UPLOAD_MIB}
)


@dataclass(frozen=True)
class Costs:
    """Costs of pieces of work and of idleness, by resource.

    Attributes:
        of_work: used by one piece.
        of_pod: used by a pod in a second, whether it works or not.
        of_installation: used in a second by what there is once, whatever the pods.
        residual: root of the mean square of relative errors over the phases that were fitted.
    """

    of_work: Mapping[str, Mapping[Work, float]]
    of_pod: Mapping[str, Mapping[Service, float]]
    of_installation: Mapping[str, float]
    residual: Mapping[str, float]

    def work(self, resource: str, pieces: Mapping[Work, float]) -> float:
        """Return what so many pieces use (or use a second, where these are rates)."""
        costs = self.of_work.get(resource, {})
        return sum(costs.get(work, 0.0) * count for work, count in pieces.items())

    def idle(self, resource: str, pods: Mapping[Service, float]) -> float:
        """Return what an installation of so many pods uses in a second without work."""
        costs = self.of_pod.get(resource, {})
        own = sum(costs.get(service, 0.0) * count for service, count in pods.items())
        return self.of_installation.get(resource, 0.0) + own

    def predict(self, resource: str, phase: Phase) -> float:
        """Return what a phase should have used."""
        idle = self.idle(resource, phase.pods) * phase.seconds
        return idle + self.work(resource, phase.work)

    @property
    def resources(self) -> Sequence[str]:
        """Everything that was measured."""
        return sorted(self.of_work)


def fit(measured: Measurement) -> Costs:
    """Compute costs from a measurement."""
    phases = [*measured.idle, *measured.work]
    names = sorted({name for phase in phases for name in phase.used})
    of_pod: dict[str, dict[Service, float]] = {}
    of_installation: dict[str, float] = {}
    for name in names:
        of_pod[name], of_installation[name] = _idle(name, measured.idle)
    so_far = Costs({}, of_pod, of_installation, {})
    of_work: dict[str, dict[Work, float]] = {}
    residual: dict[str, float] = {}
    for name in names:
        of_work[name], residual[name] = _work(name, measured.work, so_far)
    return Costs(of_work, of_pod, of_installation, residual)


def touched_by(resource: str) -> tuple[Work, ...]:
    """Return the work that may use a resource."""
    for name, work in _TOUCHED_BY.items():
        if resource == name or (name.endswith(".") and resource.startswith(name)):
            return work
    return _ALL_BUT_FILM


def _idle(name: str, phases: Sequence[Phase]) -> tuple[dict[Service, float], float]:
    """Tell pods from what there is once: each phase has a pod more than the one before."""
    rates = [phase.used.get(name, 0.0) / phase.seconds for phase in phases]
    if name.startswith("cpu.") and name.removeprefix("cpu.") in set(Service):
        service = Service(name.removeprefix("cpu."))
        pods = sum(phase.pods[service] for phase in phases)
        return {service: sum(rates) / pods}, 0.0
    # Each rate is the first and every step since, and no step is downwards: the least squares of
    # that do not take noise for steps, as differences of neighbours would.
    first = phases[0]
    steps = _not_negative(np.tri(len(phases)), np.array(rates))
    costs: dict[Service, float] = {}
    for before, after, step in zip(phases, phases[1:], steps[1:], strict=False):
        (more,) = [each for each in Service if after.pods[each] > before.pods[each]]
        # An analysis server has no other server than SQS and S3.
        if step and (more is not Service.ANALYSIS or name.startswith((SQS, S3))):
            costs[more] = float(step)
    own = sum(cost * first.pods[service] for service, cost in costs.items())
    return costs, max(float(steps[0]) - own, 0.0)


def _work(name: str, phases: Sequence[Phase], idle: Costs) -> tuple[dict[Work, float], float]:
    kinds = [
        work for work in touched_by(name) if any(phase.work.get(work, 0.0) for phase in phases)
    ]
    rows = [phase for phase in phases if any(phase.work.get(work, 0.0) for work in kinds)]
    used = np.array([phase.used.get(name, 0.0) for phase in rows])
    if not rows or not used.any():
        return {}, 0.0
    done = np.array([[phase.work.get(work, 0.0) for work in kinds] for phase in rows])
    rest = np.array([idle.idle(name, phase.pods) * phase.seconds for phase in rows])
    # What uses little is mostly noise: it must not weigh as much as what uses a lot.
    weight = 1 / np.maximum(used, used.max() / 20)
    costs = _not_negative(done * weight[:, None], (used - rest) * weight)
    error = (done @ costs + rest - used) * weight
    kept = {work: float(cost) for work, cost in zip(kinds, costs, strict=True) if cost > 0}
    return kept, float(np.sqrt(np.mean(error**2)))


def _not_negative(rows: _Floats, wanted: _Floats) -> _Floats:
    """Solve by least squares; what comes out negative is nothing, the others are solved anew."""
    free = np.ones(rows.shape[1], dtype=bool)
    while True:
        costs = np.zeros(rows.shape[1])
        costs[free] = np.linalg.lstsq(rows[:, free], wanted, rcond=None)[0]
        if (costs >= 0).all():
            return costs
        free &= costs >= 0
