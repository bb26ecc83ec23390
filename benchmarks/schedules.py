"""100,000 schedules at 1,000 firings a minute, beside plain APScheduler on the same work.

The work: every schedule has an interval, and each firing puts a message on a Dramatiq queue. The
peer is APScheduler 3.11 as its documentation has it: a BackgroundScheduler with its
SQLAlchemyJobStore on the same Postgres, and jobs that send the message. Ours is one dispatcher
process with the role `scheduler` alone, which also keeps a row of each firing. Drift is how much
later than its time a firing's message was on the queue. Then a burst: many schedules that are due
at one moment, and the time until the last message is on the queue.

Exits 1 if a firing of ours is missing or doubled, if the median of our drift exceeds both the
peer's and 100 ms, or if our burst takes longer than the peer's.

    python benchmarks/schedules.py [--schedules 100000] [--per-minute 1000] [--seconds 60]
"""

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import dramatiq
import psutil
import redis
from apscheduler.events import EVENT_JOB_EXECUTED, EVENT_JOB_MISSED
from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import text

from headrace_common.broker import make_broker
from headrace_common.db import Database
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, RedisSettings
from headrace_local import control
from headrace_local.parts import Part
from headrace_local.waiting import wait_until

QUEUE: Final = "bench_fired"
ACTOR: Final = "bench.fired"
BURST: Final = 1_000
GOOD_DRIFT_SECONDS: Final = 0.1
DEADLINE_SECONDS: Final = 300.0
#: Between the start of a process and the first firing.
LEAD_SECONDS: Final = 20.0
#: A target as another package declares it: see docs/reference/targets.md.
_TARGET: Final = f"""
from headrace_common.contracts.schedules import NoParams, TargetContract

FIRED = TargetContract(
    name="{ACTOR}", summary="Counts", params=NoParams, queue="{QUEUE}", actor="{ACTOR}",
    tracked=False,
)
"""


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        schedules: that there are.
        interval: seconds, of each.
        seconds: that the steady part takes.
        first_at: of the first firing; the others follow at even distances.
        burst_at: when BURST more are due, once.
    """

    schedules: int
    interval: float
    seconds: float
    first_at: datetime
    burst_at: datetime

    @property
    def expected(self) -> int:
        """How many firings fall into the steady part."""
        return int(self.seconds * self.schedules / self.interval)


@dataclass(frozen=True)
class Figures:
    """What one side did."""

    fired: int
    missed: int
    drift: list[float]
    burst_seconds: float
    ready_seconds: float
    cpu_seconds: float
    memory_mib: float


# --- the peer ---------------------------------------------------------------------------------

_broker: Any = None


def send_one() -> None:
    """What a job of the peer does."""
    _broker.enqueue(
        dramatiq.Message(queue_name=QUEUE, actor_name=ACTOR, args=(), kwargs={}, options={})
    )


def peer_scheduler(url: str) -> BackgroundScheduler:
    """Make the peer as its documentation does; misfires get the grace that ours have."""
    return BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=url)},
        job_defaults={"misfire_grace_time": 60, "coalesce": True, "max_instances": 1},
        timezone=UTC,
    )


def fill_peer(database: Database, url: str, work: Work) -> None:
    """Store its jobs: the rows that `add_job` writes, in bulk."""
    scheduler = peer_scheduler(url)
    SQLAlchemyJobStore(url=url).start(scheduler, "default")  # makes the table
    insert = text(
        "INSERT INTO apscheduler_jobs (id, next_run_time, job_state) VALUES (:id, :at, :state)"
    )
    rows = [
        _peer_row(scheduler, f"steady-{number}", at, work.interval)
        for number, at in enumerate(_times(work))
    ]
    rows += [_peer_row(scheduler, f"burst-{n}", work.burst_at, 86_400) for n in range(BURST)]
    with database.begin() as session:
        session.execute(insert, rows)


def _peer_row(
    scheduler: BackgroundScheduler, name: str, at: datetime, interval: float
) -> dict[str, Any]:
    job = Job(
        scheduler,
        id=name,
        name=name,
        func=send_one,
        trigger=IntervalTrigger(seconds=interval, start_date=at, timezone=UTC),
        executor="default",
        args=(),
        kwargs={},
        misfire_grace_time=60,
        coalesce=True,
        max_instances=1,
        next_run_time=at,
    )
    state = pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL)
    return {"id": name, "at": at.timestamp(), "state": state}


def run_peer(url: str) -> None:
    """Be the peer: run until standard input ends, then print what was fired, as JSON."""
    global _broker  # noqa: PLW0603 - a job of APScheduler is found by its name
    _broker = make_broker(RedisSettings.load())
    _broker.declare_queue(QUEUE)
    fired: list[tuple[str, float, float]] = []
    missed = 0
    lock = threading.Lock()

    def note(event: Any) -> None:
        nonlocal missed
        with lock:
            if event.code == EVENT_JOB_MISSED:
                missed += 1
            else:
                due = event.scheduled_run_time.timestamp()
                fired.append((event.job_id, due, time.time()))

    scheduler = peer_scheduler(url)
    scheduler.add_listener(note, EVENT_JOB_EXECUTED | EVENT_JOB_MISSED)
    started = time.monotonic()
    scheduler.start()
    ready = time.monotonic() - started
    sys.stdin.read()
    scheduler.shutdown(wait=False)
    print(json.dumps({"fired": fired, "missed": missed, "ready": ready}))


def measure_peer(url: str, env: dict[str, str], work: Work) -> Figures:
    """Run the peer's process through the work."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--peer", url],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    cpu, memory = _watch(process.pid, work)
    told, _ = process.communicate()
    seen = json.loads(told)
    steady = [at - due for name, due, at in seen["fired"] if name.startswith("steady")]
    burst = [at - due for name, due, at in seen["fired"] if name.startswith("burst")]
    return Figures(
        fired=len(steady),
        missed=seen["missed"] + max(0, BURST - len(burst)),
        drift=steady,
        burst_seconds=max(burst, default=float("inf")),
        ready_seconds=seen["ready"],
        cpu_seconds=cpu,
        memory_mib=memory,
    )


# --- ours -------------------------------------------------------------------------------------

_FILL: Final = text("""
INSERT INTO schedules (id, name, trigger, target, target_key, misfire_grace_seconds, overlap,
    next_fire_at, next_due_at, created_by, changed_by)
SELECT CAST(:kind AS text) || n, CAST(:kind AS text) || n,
    jsonb_build_object('type', 'interval', 'seconds', CAST(:interval AS float),
        'anchor', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
    :target, :target, 60, 'allow', at, at, 'bench', 'bench'
FROM (
    SELECT n, CAST(:first AS timestamptz) + n * make_interval(secs => :apart) AS at
    FROM generate_series(0, :count - 1) AS n
) AS times
""")


def fill_ours(database: Database, work: Work) -> None:
    """Store our schedules: the rows that the API writes, in bulk."""
    steady = {
        "kind": "steady-",
        "interval": work.interval,
        "first": work.first_at,
        "apart": work.interval / work.schedules,
        "count": work.schedules,
        "target": ACTOR,
    }
    burst = {**steady, "kind": "burst-", "interval": 86_400.0, "first": work.burst_at}
    with database.begin() as session:
        session.execute(_FILL, steady)
        session.execute(_FILL, {**burst, "apart": 0.0, "count": BURST})
    with database.begin() as session:
        session.execute(text("ANALYZE schedules"))


def measure_ours(
    database: Database, client: redis.Redis, env: dict[str, str], work: Work, log: Path
) -> Figures:
    """Run a dispatcher that does nothing but drive the schedules."""
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace_dispatcher"],
            env={**env, "DISPATCHER_ROLES": "scheduler", "PORT": "0", "LOG_LEVEL": "WARNING"},
            stdout=output,
            stderr=output,
        )
    leader = text("SELECT count(*) FROM scheduler_leader")

    def leads() -> bool:
        with database.begin() as session:
            return bool(session.scalar(leader))

    try:
        wait_until(leads, seconds=DEADLINE_SECONDS)
        ready = time.monotonic() - started
        cpu, memory = _watch(process.pid, work)
    finally:
        process.terminate()
        process.wait(timeout=60)
    with database.begin() as session:
        rows = session.execute(
            text("""
                SELECT f.id, s.name, extract(epoch FROM f.sent_at - f.due_at) AS late
                FROM firings f JOIN schedules s ON s.id = f.schedule_id
                WHERE f.target = :target AND f.sent_at IS NOT NULL
            """),
            {"target": ACTOR},
        ).all()
    steady = [float(row.late) for row in rows if row.name.startswith("steady")]
    burst = [float(row.late) for row in rows if row.name.startswith("burst")]
    _check_messages(client, env, {row.id for row in rows})
    return Figures(
        fired=len(steady),
        missed=_missing(rows, work) + max(0, BURST - len(burst)),
        drift=steady,
        burst_seconds=max(burst, default=float("inf")),
        ready_seconds=ready,
        cpu_seconds=cpu,
        memory_mib=memory,
    )


def _missing(rows: Sequence[Any], work: Work) -> int:
    """Return how many of the times that were to be fired have no firing."""
    fired = {row.name for row in rows}
    due = (f"steady-{n}" for n, at in enumerate(_times(work)) if at < work.burst_at)
    return sum(name not in fired for name in due)


def _check_messages(client: redis.Redis, env: dict[str, str], firings: set[int]) -> None:
    """Every firing that was sent has one message. The last may not be noted yet when it stops."""
    held: Any = client.hvals(f"{env['DRAMATIQ_NAMESPACE']}:{QUEUE}.msgs")
    told = [dramatiq.Message.decode(message).options["firing_id"] for message in held]
    if len(set(told)) < len(told) or not firings <= set(told):
        raise SystemExit(f"{len(firings)} firings, and {len(told)} messages")


# --- both -------------------------------------------------------------------------------------


def _times(work: Work) -> Iterator[datetime]:
    apart = work.interval / work.schedules
    for number in range(work.schedules):
        yield work.first_at + timedelta(seconds=number * apart)


def _watch(pid: int, work: Work) -> tuple[float, float]:
    """Wait until the work is over; return the CPU seconds it took, and the most memory in MiB."""
    process = psutil.Process(pid)
    _sleep_until(work.first_at)
    before, most = sum(process.cpu_times()[:2]), 0.0
    end = work.burst_at + timedelta(seconds=work.seconds / 2)
    while datetime.now(UTC) < end:
        most = max(most, process.memory_info().rss / 2**20)
        time.sleep(0.5)
    return sum(process.cpu_times()[:2]) - before, most


def _sleep_until(instant: datetime) -> None:
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


def plan(schedules: int, per_minute: float, seconds: float) -> Work:
    """Return work that begins soon."""
    first = datetime.now(UTC) + timedelta(seconds=LEAD_SECONDS)
    return Work(
        schedules=schedules,
        interval=60 * schedules / per_minute,
        seconds=seconds,
        first_at=first,
        burst_at=first + timedelta(seconds=seconds),
    )


def show(name: str, figures: Figures) -> None:
    """Print a row of the table."""
    cuts = statistics.quantiles(figures.drift, n=100) if len(figures.drift) > 1 else [0.0] * 99
    print(
        f"{name:<14}{figures.fired:>7}{figures.missed:>7}"
        f"{1000 * statistics.median(figures.drift or [0.0]):>9.1f}{1000 * cuts[94]:>9.1f}"
        f"{1000 * cuts[98]:>9.1f}{1000 * max(figures.drift, default=0.0):>9.1f}"
        f"{figures.burst_seconds:>9.2f}{figures.ready_seconds:>9.2f}"
        f"{figures.cpu_seconds:>8.1f}{figures.memory_mib:>9.0f}"
    )


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """Start Postgres and Valkey; yield the environment of a process that uses them."""
    directory = folder / "stack"
    (folder / "bench_targets.py").write_text(_TARGET)
    info = folder / "bench_targets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-targets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headrace.targets]\nfired = bench_targets:FIRED\n")
    state = control.up_detached(
        directory, parts=[Part.AUDIO], services=False, parent=os.getpid()
    ).state
    try:
        yield {
            "PATH": os.environ["PATH"],
            **state.env,
            "PYTHONPATH": str(folder),
            "DRAMATIQ_NAMESPACE": f"bench-{uuid4().hex}",
        }
    finally:
        control.down(directory)


def main() -> int:
    """Run both, print a table, and return 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--per-minute", type=float, default=1_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.peer:
        run_peer(told.peer)
        return 0
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as env:
        lower = {key.lower(): value for key, value in env.items()}
        settings = DatabaseSettings.model_validate(lower)
        database, client = Database(settings), redis_client(RedisSettings.model_validate(lower))
        url = settings.database_url.get_secret_value()
        filling = plan(told.schedules, told.per_minute, told.seconds)
        fill_peer(database, url, filling)
        peer = measure_peer(url, env, filling)
        with database.begin() as session:
            session.execute(text("DROP TABLE apscheduler_jobs"))
        env["DRAMATIQ_NAMESPACE"] = f"bench-{uuid4().hex}"
        work = plan(told.schedules, told.per_minute, told.seconds)
        fill_ours(database, work)
        ours = measure_ours(database, client, env, work, Path(name) / "log")
        database.close()
    print(f"{told.schedules} schedules, {told.per_minute:.0f} a minute, {told.seconds:.0f} s")
    print("               fired missed   p50 ms   p95 ms   p99 ms   max ms", end="")
    print("  burst s  ready s   CPU s      MiB")
    show("APScheduler", peer)
    show("Headrace", ours)
    slow = statistics.median(ours.drift) > max(GOOD_DRIFT_SECONDS, statistics.median(peer.drift))
    late = ours.burst_seconds > peer.burst_seconds
    return 1 if ours.missed or slow or late else 0


if __name__ == "__main__":
    sys.exit(main())
