"""What is asked of an installation, and what is taken for granted; each name has its unit."""

from typing import Final

from pydantic import Field

from headrace_capacity.measurement import Frozen, Service

SECONDS_PER_DAY: Final = 86_400.0
DAYS_PER_MONTH: Final = 30.0


class Load(Frozen):
    """What users do.

    The options of the command line are made of these fields.
    """

    jobs_per_day: float = Field(default=0, ge=0, le=1e9, description="recordings")
    audio_mib: float = Field(default=2, gt=0, le=5_000, description="size of a recording, MiB")
    audio_peak_to_mean: float = Field(
        default=3, ge=1, le=100, description="busiest hour of recordings over the mean"
    )
    sqs_share: float = Field(default=1, ge=0, le=1, description="of jobs that go over SQS")
    reports_per_job: float = Field(default=3, ge=0, le=1_000, description="progress reports")
    streams_per_job: float = Field(
        default=1, ge=0, le=1_000, description="clients that follow a job by its event stream"
    )
    client_mbit_per_second: float = Field(
        default=10, gt=0, le=1e5, description="at which a client uploads"
    )
    analysis_cpu_seconds: float = Field(
        default=1, ge=0, le=1e5, description="of your analysis server, a job"
    )
    analysis_seconds: float = Field(
        default=2, gt=0, le=1e5, description="that an analysis takes, with its waits"
    )
    result_mib: float = Field(
        default=0.2, ge=0, le=5_000, description="that an analysis stores in S3"
    )
    cameras: float = Field(default=0, ge=0, le=1e8)
    clip_every_seconds: float = Field(
        default=600, ge=1, le=1e8, description="between two clips of a camera"
    )
    clip_seconds: float = Field(default=20, ge=1, le=3_600, description="length of a clip")
    clip_mbit_per_second: float = Field(default=8, gt=0, le=1_000, description="of its film")
    camera_peak_to_mean: float = Field(
        default=1.2, ge=1, le=100, description="schedules spread clips evenly, by their anchors"
    )

    @property
    def audio_per_second(self) -> float:
        """Recordings a second, on average."""
        return self.jobs_per_day / SECONDS_PER_DAY

    @property
    def clips_per_second(self) -> float:
        """Clips a second, on average."""
        return self.cameras / self.clip_every_seconds


class Plan(Frozen):
    """How an installation is to be built."""

    target_utilisation: float = Field(
        default=0.6, gt=0, lt=1, description="of what pods and servers have, at the peak"
    )
    slot_utilisation: float = Field(
        default=0.8, gt=0, lt=1, description="of the slots for clips and analyses, at the peak"
    )
    safety_factor: float = Field(
        default=1.3, ge=1, le=10, description="on every cost, for what was not measured"
    )
    wait_p99_seconds: float = Field(
        default=0.5, gt=0, le=3_600, description="longest wait for a service, of 99 in 100"
    )
    slot_wait_p99_seconds: float = Field(
        default=10, gt=0, le=86_400, description="the same for a free slot"
    )
    retention_days: float = Field(default=30, gt=0, le=36_500, description="of jobs")
    backlog_minutes: float = Field(
        default=60, ge=0, le=1e5, description="of work at the peak that Redis has to hold"
    )
    camera_slots_per_pod: int = Field(default=2, ge=1, le=32, description="MAX_CONCURRENCY")
    analysis_slots_per_pod: int = Field(default=2, ge=1, le=64, description="ANALYSIS_CONCURRENCY")
    gpu_seconds_per_clip: float = Field(
        default=0,
        ge=0,
        le=3_600,
        description="of a GPU, a clip; not measured, so that processor time is not reduced by it",
    )
    lane_wait_seconds: float = Field(
        default=1, ge=1, le=20, description="ANALYSIS_LANE_WAIT_SECONDS"
    )
    lane_queues: int = Field(
        default=3, ge=1, le=3, description="SQS queues: one for each lane, or one for all"
    )
    s3_seconds: float = Field(default=0.03, gt=0, le=60, description="of a small request to S3")


class Limits(Frozen):
    """Where the parts end. Those of AWS are theirs as of 2025; check them."""

    postgres_cores: float = Field(default=8, gt=0, description="of the primary")
    postgres_connections: int = Field(default=500, gt=0, description="max_connections")
    postgres_writes_per_second: float | None = Field(
        default=None, gt=0, description="transactions that wait for the disk; else as measured"
    )
    postgres_gb: float = Field(default=2_000, gt=0, description="disk")
    redis_cores: float = Field(default=1, gt=0, description="it works on one, mostly")
    redis_gib: float = Field(default=4, gt=0, description="maxmemory")
    sqs_in_flight: int = Field(default=120_000, gt=0, description="of a standard queue")
    s3_writes_per_second: float = Field(default=3_500, gt=0, description="of one prefix (a day)")
    swift_mbit_per_second: float = Field(default=1_000, gt=0)
    swift_requests_per_second: float = Field(default=1_000, gt=0)
    camera_mbit_per_second: float = Field(
        default=10_000, gt=0, description="of the network between cameras and cluster"
    )
    pods: dict[Service, int] = Field(
        default={
            Service.INGEST: 10,
            Service.DISPATCHER: 10,
            Service.RESULTS: 10,
            Service.PREPROCESSOR: 8,
            Service.ANALYSIS: 20,
        },
        description="maxReplicas of k8s/components",
    )


class Prices(Frozen):
    """Published prices, without taxes and discounts. Check them before you count on them."""

    region: str = "us-east-1"
    as_of: str = "2025"
    sqs_dollars_per_million: float = Field(default=0.40, ge=0, description="standard queue")
    sqs_free_millions: float = Field(default=1, ge=0, description="a month")
    s3_write_dollars_per_thousand: float = Field(default=0.005, ge=0, description="PUT, LIST")
    s3_read_dollars_per_thousand: float = Field(default=0.0004, ge=0, description="GET")
    s3_dollars_per_gb_month: float = Field(default=0.023, ge=0, description="S3 Standard")
