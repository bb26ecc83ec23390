"""What Postgres, Redis, SQS, S3, Swift and the network have to bear."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headrace_capacity.demand import rates
from headrace_capacity.fit import Costs
from headrace_capacity.load import DAYS_PER_MONTH, SECONDS_PER_DAY, Load, Plan, Prices
from headrace_capacity.measurement import (
    COMMANDS,
    COMMITS,
    POSTGRES,
    REDIS,
    ROWS,
    SWIFT,
    WAL_BYTES,
    WRITES,
    Measurement,
    Service,
    Work,
    cpu_of,
)
from headrace_capacity.requests import LISTS_PER_PURGE, SqsTraffic, s3_writes_per_upload

#: DATABASE_POOL_SIZE of each, which is the most that a pod opens; a gpu-preprocessor only asks for
#: the key of an HTTP request. The two schedulers are dispatchers.
POOL: Final[Mapping[Service, int]] = {
    Service.INGEST: 10,
    Service.DISPATCHER: 10,
    Service.RESULTS: 20,
    Service.PREPROCESSOR: 1,
    Service.ANALYSIS: 0,
}
_SCHEDULERS: Final = 2
#: Dead rows between two vacuums, and pages that are not full.
_BLOAT: Final = 1.3
_MIB: Final = 2**20
#: An empty Redis, its buffers, and the keys that are there whatever the load.
_REDIS_BASE_MIB: Final = 16.0
#: REDIS_TRIM_SECONDS.
_TRIM_SECONDS: Final = 60.0
#: The recording once, and the two files of its token from a cache.
_S3_READS_PER_ANALYSIS: Final = 1.0
#: Plot and curves of the example's server.
_S3_WRITES_PER_RESULT: Final = 2.0


@dataclass(frozen=True)
class PostgresNeed:
    """Of the primary; a second's figures at the peak.

    Attributes:
        connections: that there may be, where every pool is full.
        connections_seen: that there would be as many as pods had open when they were measured.
    """

    commits: float
    writes: float
    wal_bytes: float
    cores: float
    kept_gb: float
    connections: int
    connections_seen: int


@dataclass(frozen=True)
class RedisNeed:
    """A second's figures at the peak; memory with the backlog."""

    commands: float
    cores: float
    memory_mib: float
    backlog_mib: float


@dataclass(frozen=True)
class CloudNeed:
    """Of a month on average, but for what is named otherwise."""

    sqs_requests: Mapping[str, float]
    sqs_in_flight_at_peak: float
    s3_writes: float
    s3_reads: float
    s3_gb: float
    s3_writes_per_second_at_peak: float

    def sqs_millions(self) -> float:
        """Return all requests to SQS."""
        return sum(self.sqs_requests.values()) / 1e6

    def sqs_dollars(self, prices: Prices) -> float:
        """Return what they cost; each is far below the 64 KiB that count as one."""
        paid = max(self.sqs_millions() - prices.sqs_free_millions, 0.0)
        return paid * prices.sqs_dollars_per_million

    def s3_dollars(self, prices: Prices) -> float:
        """Return what S3 costs, without transfers out of the region."""
        return (
            self.s3_writes / 1_000 * prices.s3_write_dollars_per_thousand
            + self.s3_reads / 1_000 * prices.s3_read_dollars_per_thousand
            + self.s3_gb * prices.s3_dollars_per_gb_month
        )


@dataclass(frozen=True)
class FlowNeed:
    """Mbit/s at the peak, but for the last two."""

    uploads: float
    analysis_downloads: float
    films: float
    swift: float
    swift_requests_per_second: float
    swift_gb_a_month: float


def postgres(
    load: Load, plan: Plan, measured: Measurement, costs: Costs, pods: Mapping[Service, int]
) -> PostgresNeed:
    """Return what Postgres needs; bytes kept are those of jobs over their retention."""
    work = rates(load, peak=True)

    def use(resource: str) -> float:
        return costs.idle(resource, pods) + costs.work(resource, work) * plan.safety_factor

    mean = rates(load, peak=False)
    per_second = sum(
        costs.work(f"{ROWS}{table}", mean) * size
        for table, size in measured.held.postgres_bytes_per_row.items()
    )
    kept = per_second * SECONDS_PER_DAY * plan.retention_days * _BLOAT
    return PostgresNeed(
        commits=use(COMMITS),
        writes=use(WRITES),
        wal_bytes=use(WAL_BYTES) * measured.full_page_factor,
        cores=use(cpu_of(POSTGRES)),
        kept_gb=kept / 1e9,
        connections=_connections(POOL, pods),
        connections_seen=_connections(measured.held.postgres_connections, pods),
    )


def _connections(each: Mapping[Service, int], pods: Mapping[Service, int]) -> int:
    of_schedulers = _SCHEDULERS * each[Service.DISPATCHER]
    return of_schedulers + sum(each[service] * count for service, count in pods.items())


def redis(
    load: Load, plan: Plan, measured: Measurement, costs: Costs, pods: Mapping[Service, int]
) -> RedisNeed:
    """Return what Redis needs, with a backlog of so many minutes in which nothing is worked on."""
    work, held = rates(load, peak=True), measured.held
    audio, clips = work.get(Work.UPLOAD, 0.0), work.get(Work.CAMERA_JOB, 0.0)
    waiting = audio * held.redis_bytes_per_waiting_job + clips * held.redis_bytes_per_camera_entry
    backlog = waiting * plan.backlog_minutes * 60 * plan.safety_factor / _MIB
    done = clips * held.redis_bytes_per_camera_entry * _TRIM_SECONDS / _MIB

    def use(resource: str) -> float:
        return costs.idle(resource, pods) + costs.work(resource, work) * plan.safety_factor

    return RedisNeed(
        commands=use(COMMANDS),
        cores=use(cpu_of(REDIS)),
        memory_mib=_REDIS_BASE_MIB + backlog + done,
        backlog_mib=backlog,
    )


def cloud(load: Load, plan: Plan, mean_pods: Mapping[Service, int]) -> CloudNeed:
    """Return what SQS and S3 get."""
    month = DAYS_PER_MONTH * SECONDS_PER_DAY
    mean, peak = rates(load, peak=False), rates(load, peak=True)
    sqs = SqsTraffic(
        jobs_per_second=mean.get(Work.JOB_SQS, 0.0),
        dispatchers=mean_pods[Service.DISPATCHER],
        results=mean_pods[Service.RESULTS],
        analysis_servers=mean_pods[Service.ANALYSIS],
        lane_wait_seconds=plan.lane_wait_seconds,
        lane_queues=plan.lane_queues,
    )
    writes = s3_writes_per_upload(load.audio_mib) + _S3_WRITES_PER_RESULT
    kept_mib = load.audio_mib + load.result_mib
    return CloudNeed(
        sqs_requests={
            name: count * month for name, count in sqs.per_second().items() if load.jobs_per_day
        },
        sqs_in_flight_at_peak=peak.get(Work.JOB_SQS, 0.0) * load.analysis_seconds,
        s3_writes=load.audio_per_second * month * (writes + LISTS_PER_PURGE),
        s3_reads=load.audio_per_second * month * _S3_READS_PER_ANALYSIS,
        s3_gb=load.jobs_per_day * plan.retention_days * kept_mib * _MIB / 1e9,
        s3_writes_per_second_at_peak=peak.get(Work.UPLOAD, 0.0) * writes,
    )


def flows(load: Load, measured: Measurement, costs: Costs) -> FlowNeed:
    """Return what goes over the network."""
    peak, mean = rates(load, peak=True), rates(load, peak=False)
    audio = peak.get(Work.UPLOAD_MIB, 0.0) * _MIB * 8 / 1e6
    clips = peak.get(Work.CAMERA_JOB, 0.0)
    artefacts = measured.held.swift_bytes_per_camera_job
    requests = sum(costs.work(name, peak) for name in costs.resources if name.startswith(SWIFT))
    month = DAYS_PER_MONTH * SECONDS_PER_DAY
    return FlowNeed(
        uploads=audio,
        analysis_downloads=audio,
        films=clips * load.clip_seconds * load.clip_mbit_per_second,
        swift=clips * artefacts * 8 / 1e6,
        swift_requests_per_second=requests,
        swift_gb_a_month=mean.get(Work.CAMERA_JOB, 0.0) * artefacts * month / 1e9,
    )
