"""Which part is exhausted first, and what replaces it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_capacity.demand import rates
from headrace_capacity.fit import Costs
from headrace_capacity.load import Limits, Load, Plan
from headrace_capacity.measurement import Measurement, Service, Work, cpu_of
from headrace_capacity.need import Need
from headrace_capacity.pods import Pods

#: A round of `housekeeping.purge-jobs` works for a minute of every two, on eight jobs at a time,
#: each of which is two lists, a removal, and one for each object that its analysis stored.
_PURGE_SHARE: Final = 0.5
_PURGE_THREADS: Final = 8
_PURGE_REQUESTS: Final = 5
_REPLACED: Final = {
    "Postgres, processor": "a larger primary; then reads of `GET /jobs` and of timelines from a "
    "replica, and fewer reports of progress (`PROGRESS_INTERVAL_SECONDS`)",
    "Postgres, writes": "faster disks; then jobs taken up in batches, as they are sent in batches: "
    "one transaction for ten",
    "Postgres, connections": "a smaller `DATABASE_POOL_SIZE`; a higher `max_connections`; then "
    "PgBouncer, for which the locks of sessions need a URL of their own",
    "Postgres, disk": "`jobs`, `job_events` and `webhook_inbox` in partitions by day, of which one "
    "is dropped a day; or a shorter `JOB_RETENTION_DAYS`",
    "Redis, processor": "I/O threads (Valkey 8); then one Redis for Dramatiq and one for streams "
    "and events, for which services need a second `REDIS_URL`",
    "Redis, memory": "a larger one: what it holds is the backlog",
    "SQS, in flight": "a queue for each lane has a limit of its own",
    "S3, writes": "nothing: S3 divides a prefix under lasting load; a limit of the first minutes",
    "Swift, bandwidth": "more proxies and disks; a lower `JPEG_QUALITY`",
    "Swift, requests": "more proxies; then fewer questions whether an object is there",
    "cameras' network": "shorter or rarer clips, or gpu-preprocessors beside the cameras",
    "scheduler, firings": "a producer that adds entries to the stream by itself, without firings; "
    "or an installation for each region: one leader drives all schedules",
    "removal of jobs": "`JOB_PURGE_SECONDS=60`, by which it works all the time; then a second "
    "schedule of `housekeeping.purge-jobs`, which shares the work",
}
_MORE_PODS: Final = "a higher `maxReplicas`, and nodes for them"
_SLOTS: Final = (
    "a higher `MAX_CONCURRENCY`: a live clip waits for its camera, not for a processor; memory "
    "for each slot; then more pods"
)
_ANALYSES: Final = "more pods, more `ANALYSIS_CONCURRENCY` where analyses wait, faster analyses"


@dataclass(frozen=True)
class Usage:
    """How much of a part a load uses at its peak.

    Attributes:
        limit: in the unit of `used`, of which the share `usable` may be used.
    """

    name: str
    unit: str
    used: float
    limit: float
    usable: float
    replaced_by: str

    @property
    def share(self) -> float:
        """Of what may be used; above 1 it is exhausted."""
        return self.used / (self.limit * self.usable)


@dataclass(frozen=True)
class Part:
    """A part, and how far it goes.

    Attributes:
        times: how many times the load it bears; below 1 it is exhausted already.
    """

    usage: Usage
    times: float


def usages(
    need: Need, load: Load, plan: Plan, limits: Limits, measured: Measurement, costs: Costs
) -> Sequence[Usage]:
    """Return how much of every part a load uses."""
    most_writes = limits.postgres_writes_per_second or measured.commits_per_second
    cpu = plan.target_utilisation
    peak = rates(load, peak=True)
    firing_cpu = costs.of_work[cpu_of(Service.DISPATCHER)].get(Work.FIRING, 0.0)
    firings = peak.get(Work.FIRING, 0.0) * firing_cpu * plan.safety_factor
    purged = _PURGE_THREADS / (_PURGE_REQUESTS * plan.s3_seconds) * _PURGE_SHARE
    base, queue, bought, flow = need.postgres, need.redis, need.cloud, need.flows
    rows = [
        ("Postgres, processor", "cores", base.cores, limits.postgres_cores, cpu),
        ("Postgres, writes", "transactions/s", base.writes, most_writes, cpu),
        ("Postgres, connections", "", base.connections, limits.postgres_connections, 0.8),
        ("Postgres, disk", "GB", base.kept_gb, limits.postgres_gb, 0.8),
        ("Redis, processor", "cores", queue.cores, limits.redis_cores, cpu),
        ("Redis, memory", "MiB", queue.memory_mib, limits.redis_gib * 1024, 0.8),
        ("SQS, in flight", "messages", bought.sqs_in_flight_at_peak, limits.sqs_in_flight, 0.8),
        ("S3, writes", "requests/s", bought.s3_writes_per_second_at_peak,
         limits.s3_writes_per_second, 0.8),
        ("Swift, bandwidth", "Mbit/s", flow.swift, limits.swift_mbit_per_second, cpu),
        ("Swift, requests", "requests/s", flow.swift_requests_per_second,
         limits.swift_requests_per_second, cpu),
        ("cameras' network", "Mbit/s", flow.films, limits.camera_mbit_per_second, 0.8),
        ("scheduler, firings", "cores", firings, 1.0, cpu),
        ("removal of jobs", "jobs/s", peak.get(Work.PURGE, 0.0), purged, 0.8),
    ]  # fmt: skip
    found = [Usage(*row, replaced_by=_REPLACED[row[0]]) for row in rows]
    found += [
        Usage(f"pods of {service}", "", pods.peak, limits.pods[service], 1.0,
              _pods_replaced(service, pods))
        for service, pods in need.pods.items()
    ]  # fmt: skip
    return [usage for usage in found if usage.used]


def _pods_replaced(service: Service, pods: Pods) -> str:
    if service is Service.PREPROCESSOR and pods.because == "slots":
        return _SLOTS
    return _ANALYSES if service is Service.ANALYSIS else _MORE_PODS
