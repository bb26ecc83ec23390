"""How many pods of each service a load needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from headrace_capacity.demand import rates
from headrace_capacity.fit import Costs
from headrace_capacity.load import Load, Plan
from headrace_capacity.measurement import Held, Service, Work, cpu_of
from headrace_capacity.queueing import servers_for, wait_seconds

#: A Python process has little more than one core, whatever it is allowed; the two that work on
#: media use what their limits (k8s/base) give them.
CORES: Final[Mapping[Service, float]] = {
    Service.INGEST: 1.0,
    Service.DISPATCHER: 1.0,
    Service.RESULTS: 1.0,
    Service.PREPROCESSOR: 4.0,
    Service.ANALYSIS: 2.0,
}
#: Requests of one pod (k8s/base): cores and MiB.
REQUESTS: Final[Mapping[Service, tuple[float, int]]] = {
    Service.INGEST: (0.5, 512),
    Service.DISPATCHER: (0.25, 256),
    Service.RESULTS: (0.25, 256),
    Service.PREPROCESSOR: (2.0, 1536),
    Service.ANALYSIS: (1.0, 1280),
}
#: Replicas that there are without load (k8s/base).
LEAST: Final[Mapping[Service, int]] = {
    Service.INGEST: 2,
    Service.DISPATCHER: 2,
    Service.RESULTS: 2,
    Service.PREPROCESSOR: 1,
    Service.ANALYSIS: 1,
}
#: SSE_MAX_CLIENTS and MAX_CONCURRENT_UPLOADS, of which a pod gets four fifths.
_MOST_STREAMS: Final = 1_000 * 0.8
_MOST_UPLOADS: Final = 32 * 0.8
#: Beside a pod's own: of an upload (benchmarks/upload_throughput.py), of a clip and its decoder
#: (benchmarks/preprocess.py), of the example's longest analysis (docs/how-to/kubernetes.md).
_MIB_PER_UPLOAD: Final = 26.4
_MIB_PER_CLIP: Final = 166.0 + 189.0
_MIB_PER_ANALYSIS: Final = 473.0
#: What the arrivals of a service are, whose mean cost is its service time.
_ARRIVALS: Final[Mapping[Service, tuple[Work, ...]]] = {
    Service.INGEST: (Work.UPLOAD,),
    Service.DISPATCHER: (Work.JOB_SQS, Work.JOB_HTTP, Work.FIRING),
    Service.RESULTS: (Work.JOB_SQS, Work.JOB_HTTP, Work.PROGRESS, Work.STREAM, Work.CAMERA_JOB),
}


@dataclass(frozen=True)
class Pods:
    """What one service needs.

    Attributes:
        mean: replicas for the mean rates.
        peak: replicas for the rates at the peak.
        cores: that all of them use at the peak, with the safety factor.
        memory_mib: of all of them at the peak.
        wait_p99_seconds: for a free one, at the peak.
        because: what decides their number at the peak.
    """

    mean: int
    peak: int
    cores: float
    memory_mib: float
    wait_p99_seconds: float
    because: str


@dataclass(frozen=True)
class _Need:
    pods: int
    cores: float
    wait: float
    because: str


def pods_of(service: Service, load: Load, plan: Plan, costs: Costs, held: Held) -> Pods:
    """Return what a service needs for a load."""
    mean = _need(service, load, plan, costs, peak=False)
    peak = _need(service, load, plan, costs, peak=True)
    idle = costs.of_pod[cpu_of(service)].get(service, 0.0)
    memory = held.memory_mib[service] * peak.pods + _pieces_mib(service, load, held)
    return Pods(
        mean=mean.pods,
        peak=peak.pods,
        cores=peak.cores + idle * peak.pods,
        memory_mib=memory,
        wait_p99_seconds=peak.wait,
        because=peak.because,
    )


def demanded_cores(service: Service, work: Mapping[Work, float], load: Load, costs: Costs) -> float:
    """Return the cores that so much work a second keeps busy."""
    own = costs.work(cpu_of(service), work)
    if service is Service.ANALYSIS:
        jobs = work.get(Work.JOB_SQS, 0.0) + work.get(Work.JOB_HTTP, 0.0)
        return own + jobs * load.analysis_cpu_seconds
    return own


def slots(service: Service, load: Load, work: Mapping[Work, float], costs: Costs) -> float:
    """Return how many clips or analyses are in hand at a time, by Little's law.

    A live camera brings a clip no sooner than it happens: its slot is taken for its whole length.
    """
    if service is Service.PREPROCESSOR:
        return work.get(Work.CAMERA_JOB, 0.0) * clip_job_seconds(load, costs)
    return (work.get(Work.JOB_SQS, 0.0) + work.get(Work.JOB_HTTP, 0.0)) * load.analysis_seconds


def clip_job_seconds(load: Load, costs: Costs) -> float:
    """Return how long a clip takes a slot: its length, and the work that follows it."""
    fixed = costs.of_work[cpu_of(Service.PREPROCESSOR)].get(Work.CAMERA_JOB, 0.0)
    return load.clip_seconds + fixed


def open_streams(load: Load) -> float:
    """Return how many event streams are open at the peak."""
    return rates(load, peak=True).get(Work.WATCHED_SECOND, 0.0)


def open_uploads(load: Load) -> float:
    """Return how many uploads are under way at the peak, by Little's law."""
    seconds = load.audio_mib * 2**20 * 8 / (load.client_mbit_per_second * 1e6)
    return load.audio_per_second * load.audio_peak_to_mean * seconds


def _need(service: Service, load: Load, plan: Plan, costs: Costs, *, peak: bool) -> _Need:
    work = rates(load, peak=peak)
    cores = demanded_cores(service, work, load, costs) * plan.safety_factor
    idle = costs.of_pod[cpu_of(service)].get(service, 0.0)
    usable = CORES[service] * plan.target_utilisation - idle
    wanted = {"least": LEAST[service], "processor": ceil(cores / usable - 1e-9)}
    wait = 0.0
    if service in _ARRIVALS:
        arrivals = sum(work.get(each, 0.0) for each in _ARRIVALS[service])
        if arrivals:
            each_seconds = cores / arrivals
            wanted["wait"] = servers_for(
                arrivals,
                each_seconds,
                utilisation=plan.target_utilisation,
                wait_p99_seconds=plan.wait_p99_seconds,
            )
            count = max(wanted.values())
            wait = wait_seconds(count, arrivals, each_seconds, quantile=0.99)
    else:
        wanted["slots"] = _slot_pods(service, load, plan, work, costs)
    if service is Service.PREPROCESSOR:
        busy = work.get(Work.CAMERA_JOB, 0.0) * plan.gpu_seconds_per_clip * plan.safety_factor
        wanted["GPU"] = ceil(busy / plan.target_utilisation)
    if service is Service.RESULTS:
        wanted["streams"] = ceil(work.get(Work.WATCHED_SECOND, 0.0) / _MOST_STREAMS)
    if service is Service.INGEST:
        wanted["uploads"] = ceil(open_uploads(load) / _MOST_UPLOADS) if peak else 0
    because = max(wanted, key=lambda name: wanted[name])
    return _Need(wanted[because], cores, wait, because)


def _slot_pods(
    service: Service, load: Load, plan: Plan, work: Mapping[Work, float], costs: Costs
) -> int:
    in_hand = slots(service, load, work, costs)
    if not in_hand:
        return 0
    if service is Service.PREPROCESSOR:
        arrivals, per_pod = work[Work.CAMERA_JOB], plan.camera_slots_per_pod
    else:
        arrivals = work.get(Work.JOB_SQS, 0.0) + work.get(Work.JOB_HTTP, 0.0)
        per_pod = plan.analysis_slots_per_pod
    needed = servers_for(
        arrivals,
        in_hand / arrivals,
        utilisation=plan.slot_utilisation,
        wait_p99_seconds=plan.slot_wait_p99_seconds,
    )
    return ceil(needed / per_pod)


def _pieces_mib(service: Service, load: Load, held: Held) -> float:
    """Return the memory of what is in hand at the peak."""
    clips = load.clips_per_second * load.camera_peak_to_mean
    audio = load.audio_per_second * load.audio_peak_to_mean
    found: Mapping[Service, float] = {
        Service.INGEST: open_uploads(load) * _MIB_PER_UPLOAD,
        Service.DISPATCHER: 0.0,
        Service.RESULTS: open_streams(load) * held.memory_mib_per_stream,
        Service.PREPROCESSOR: clips * load.clip_seconds * _MIB_PER_CLIP,
        Service.ANALYSIS: audio * load.analysis_seconds * _MIB_PER_ANALYSIS,
    }
    return found[service]
