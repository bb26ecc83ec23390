"""What was measured: phases of one run, each with the work that was done and what it used.

Nothing here is computed: `fit` makes costs of it. The file is written by `make capacity`.
"""

from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MEASURED: Final = Path(__file__).parent / "measured.json"


class Work(StrEnum):
    """A piece of work, of which a load has so many a second."""

    UPLOAD = "upload"  #: of a recording, whatever its size
    UPLOAD_MIB = "upload_mib"  #: a MiB of one
    JOB_SQS = "job_sqs"  #: dispatch over SQS, taking it up, the final report
    JOB_HTTP = "job_http"  #: the same over HTTP
    PROGRESS = "progress"  #: a report of progress, sent and applied
    HEARTBEAT = "heartbeat"  #: a sign of life, received
    STREAM = "stream"  #: an event stream that is opened, with what has happened so far
    WATCHED_SECOND = "watched_second"  #: a second of an open event stream
    STREAM_EVENT = "stream_event"  #: an event that goes to one open stream
    FIRING = "firing"  #: of a schedule, performed; what it begins comes on top
    CAMERA_JOB = "camera_job"  #: whatever the length of its clip
    CAMERA_SECOND = "camera_second"  #: a second of its clip, 1280x720 at 25 frames/s
    PURGE = "purge"  #: removal of an audio job after its retention


class Service(StrEnum):
    """What has pods."""

    INGEST = "ingest-api"
    DISPATCHER = "dispatcher"
    RESULTS = "results"
    PREPROCESSOR = "gpu-preprocessor"
    ANALYSIS = "analysis-server"


def cpu_of(name: str) -> str:
    """Return what the CPU seconds of a service or server are called among resources."""
    return f"cpu.{name}"


POSTGRES: Final = "postgres"
REDIS: Final = "valkey"
#: Transactions, as `pg_stat_database` counts them: a backend tells what it did up to a second, and
#: an idle one up to ten seconds late.
COMMITS: Final = "postgres.commits"
#: Transactions that wrote something, by their ids: exact. Each waits for the disk.
WRITES: Final = "postgres.writes"
WAL_BYTES: Final = "postgres.wal_bytes"
COMMANDS: Final = "redis.commands"
#: Rows that there are more, by table: `rows.jobs`.
ROWS: Final = "rows."
#: Requests of our clients by operation: `sqs.SendMessageBatch`, `s3.PutObject`, `swift.put`.
SQS: Final = "sqs."
S3: Final = "s3."
SWIFT: Final = "swift."


class Frozen(BaseModel):
    """A value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Conditions(Frozen):
    """Where and when it was measured."""

    commit: str
    date: str
    cpu: str
    cores: int
    python: str
    postgres: str
    redis: str


class Phase(Frozen):
    """Some time of the run.

    Attributes:
        name: what was done.
        seconds: that it took.
        pods: of each service.
        work: pieces that were done.
        used: of each resource, all processes together.
    """

    name: str
    seconds: float = Field(gt=0)
    pods: dict[Service, int]
    work: dict[Work, float]
    used: dict[str, float]


class Held(Frozen):
    """What is kept while work waits, and after it.

    Attributes:
        redis_bytes_per_waiting_job: in its lane, with what Dramatiq keeps of the message.
        redis_bytes_per_camera_entry: on the stream, also of one that is done, until it is trimmed
            (REDIS_TRIM_SECONDS); reports are removed when they are read.
        postgres_connections: that a pod has open after work, by service.
        postgres_bytes_per_row: by table, with its indices, without dead rows.
        swift_bytes_per_camera_job: the five artefacts of a 1280x720 clip.
        memory_mib: of a pod's processes after work, by service.
        memory_mib_per_stream: of results, for an open event stream.
    """

    redis_bytes_per_waiting_job: float
    redis_bytes_per_camera_entry: float
    postgres_connections: dict[Service, int]
    postgres_bytes_per_row: dict[str, float]
    swift_bytes_per_camera_job: float
    memory_mib: dict[Service, float]
    memory_mib_per_stream: float


class Measurement(Frozen):
    """One run.

    Attributes:
        idle: phases without work; the first has one pod of each service, each later one a pod
            more of one service.
        work: phases from which costs are fitted.
        proof: a phase that is not fitted, for comparison with what is predicted.
        held: what is kept.
        held_proof: Redis's bytes for each waiting job in another lane, also only compared.
        burst_cpu_seconds_per_dispatch: of the dispatcher, when all wait and go in full batches.
        commits_per_second: that this Postgres does at most, with a small write each.
        full_page_factor: WAL with full-page images, right after a checkpoint, over WAL without.
    """

    conditions: Conditions
    idle: list[Phase]
    work: list[Phase]
    proof: Phase
    held: Held
    held_proof: float
    burst_cpu_seconds_per_dispatch: float
    commits_per_second: float
    full_page_factor: float


def load(path: Path = MEASURED) -> Measurement:
    """Read a measurement."""
    return Measurement.model_validate_json(path.read_text())
