"""Counters of everything that a stack uses, read at one moment."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from uuid import uuid4

import httpx
import psutil
import psycopg
import redis
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from headrace_capacity.measurement import (
    COMMANDS,
    COMMITS,
    POSTGRES,
    REDIS,
    ROWS,
    WAL_BYTES,
    WRITES,
    Service,
    cpu_of,
)
from headrace_local.state import ProcessRecord, ProcessState, StackState

_SERVERS: Final = (POSTGRES, REDIS)
#: Of which there is a row for a job or a few, so that they make the size of the database.
TABLES: Final = ("jobs", "job_events", "webhook_inbox", "firings")
#: Our own questions, and what a connection asks for when it is made.
_NOT_COUNTED: Final = frozenset({"info", "hello", "auth", "client", "ping", "config", "memory"})
#: Requests to servers outside: the metric, and the labels that name what was asked.
_REQUESTS: Final = {
    "headrace_aws_request_duration_seconds_count": ("api", "operation"),
    "headrace_swift_request_duration_seconds_count": ("operation",),
}
#: So many that what a stream takes besides does not count.
_COPIES: Final = 2_000
_SENT: Final = "headrace_dispatches_total"


class Meters:
    """Reads counters; connections stay open, so that reading costs the same each time."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Connect to the servers that `env` names."""
        self.database = psycopg.connect(env["DATABASE_URL"], autocommit=True)
        self.redis: Any = redis.Redis.from_url(
            env["REDIS_URL"], password=env["REDIS_PASSWORD"], decode_responses=True
        )
        self._namespace = env.get("DRAMATIQ_NAMESPACE", "dramatiq")
        self._http = httpx.Client(timeout=60, trust_env=False)
        self._asked = 0  # our own transactions

    def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self.redis.close()
        self.database.close()

    def read(self, state: StackState) -> dict[str, float]:
        """Return every counter, summed over processes of a kind."""
        found: defaultdict[str, float] = defaultdict(float)
        for record in state.processes:
            if record.state is not ProcessState.READY or record.pid is None:
                continue
            name = _kind(record)
            if name in _SERVERS or name in set(Service):
                found[cpu_of(name)] += cpu_seconds(record.pid)
            if record.kind == "service":
                for operation, count in self._requests(record.url):
                    found[operation] += count
        return {**found, **self._postgres(), **self._redis()}

    def _samples(self, url: str) -> Iterator[Sample]:
        answer = self._http.get(f"{url}/metrics")
        answer.raise_for_status()
        for family in text_string_to_metric_families(answer.text):
            yield from family.samples

    def _requests(self, url: str) -> Iterator[tuple[str, float]]:
        for sample in self._samples(url):
            if (labels := _REQUESTS.get(sample.name)) is not None:
                words = [sample.labels[label] for label in labels]
                yield ".".join(words if len(words) > 1 else ["swift", *words]), sample.value

    def sent_over_sqs(self, dispatchers: Iterable[str]) -> int:
        """Return how many jobs these dispatchers have sent over SQS."""
        return sum(
            int(sample.value)
            for url in dispatchers
            for sample in self._samples(url)
            if sample.name == _SENT and sample.labels["transport"] == "sqs"
        )

    def _postgres(self) -> dict[str, float]:
        own = self._asked
        commits, next_id, wal = self.one(
            "SELECT xact_commit, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, "
            "pg_current_wal_insert_lsn() - '0/0'::pg_lsn "
            "FROM pg_stat_database WHERE datname = current_database()"
        )
        rows = {f"{ROWS}{name}": self.one(f"SELECT count(*) FROM {name}")[0] for name in TABLES}  # noqa: S608 - names of ours
        read = {COMMITS: commits - own, WRITES: next_id, WAL_BYTES: wal, **rows}
        return {name: float(count) for name, count in read.items()}

    def _redis(self) -> dict[str, float]:
        calls = self.redis.info("commandstats")
        counted = sum(
            each["calls"]
            for name, each in calls.items()
            if name.removeprefix("cmdstat_").partition("|")[0] not in _NOT_COUNTED
        )
        return {COMMANDS: float(counted)}

    def one(self, query: str) -> tuple[Any, ...]:
        """Return the first row of an answer."""
        self._asked += 1
        row = self.database.execute(query.encode()).fetchone()
        if row is None:
            raise LookupError(f"no row: {query}")
        return row

    def connections(self) -> dict[Service, int]:
        """Return the open connections to Postgres, by service; the leader's is the dispatcher's."""
        self._asked += 1
        rows = self.database.execute(
            "SELECT application_name, count(*) FROM pg_stat_activity "
            "WHERE application_name LIKE 'headrace-%' GROUP BY 1"
        )
        found = dict.fromkeys(Service, 0)
        for name, count in rows:
            own = [each for each in Service if name == f"headrace-{each}"]
            found[own[0] if own else Service.DISPATCHER] += count
        return found

    def queue_bytes(self, queue: str) -> int:
        """Return what Redis has allocated for the messages of a queue of Dramatiq's.

        Not by `used_memory`: buffers of its clients come and go by tens of kilobytes.
        """
        names = (f"{self._namespace}:{queue}", f"{self._namespace}:{queue}.msgs")
        return sum(int(self.redis.memory_usage(name, samples=0) or 0) for name in names)

    def bytes_per_entry(self, stream: str) -> float:
        """Return what an entry like the last ones of a stream takes among many."""
        found = self.redis.xrevrange(stream, count=20)
        copy = f"measured:{uuid4().hex}"
        with self.redis.pipeline(transaction=False) as pipeline:
            for number in range(_COPIES):
                pipeline.xadd(copy, found[number % len(found)][1])
            pipeline.memory_usage(copy, samples=0)
            pipeline.delete(copy)
            *_, size, _ = pipeline.execute()
        return float(size) / _COPIES


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its descendants, those that ended included."""
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # ended just now: its parent has its time
        total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mib(pid: int) -> float:
    """Return the memory of a process and its descendants, what they share counted once."""
    root = psutil.Process(pid)
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return float(total) / 2**20


def _kind(record: ProcessRecord) -> str:
    return record.name.removesuffix("-2")
