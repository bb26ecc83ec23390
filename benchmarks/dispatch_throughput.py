"""Jobs per second through a dispatcher, beside what its parts give without it, in one run.

A dispatcher process takes jobs off a lane and sends them to SQS, with every change of their rows.
Its peers use the same Redis and SQS: Dramatiq with an actor that does nothing, one SendMessage a
job from as many threads, and SendMessageBatch from one thread. Exits 1 if the dispatcher is slower
than a fiftieth of bare Dramatiq.

    python benchmarks/dispatch_throughput.py [--jobs 2000]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import dramatiq
import psutil
from sqlalchemy import func, select

from headrace_common.broker import make_broker, new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, EventPublisher, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, RedisSettings, SqsSettings
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES, sqs_client
from headrace_common.worker import EmbeddedWorker
from headrace_local import control
from headrace_local.parts import Part
from headrace_local.waiting import wait_until

THREADS = 32
MIN_RATIO = 0.02
DEADLINE_SECONDS = 300


class Bench:
    """The servers of one run."""

    def __init__(self, env: dict[str, str]) -> None:
        """Connect to the servers that `env` names."""
        self.env = {**env, "DRAMATIQ_NAMESPACE": f"bench-{uuid4().hex}"}
        lower = {name.lower(): value for name, value in self.env.items()}
        self.redis_settings = RedisSettings.model_validate(lower)
        self.sqs_settings = SqsSettings.model_validate(lower)
        self.database = Database(DatabaseSettings.model_validate(lower))
        self.sqs = sqs_client(self.sqs_settings)
        self.store = JobStore(
            self.database,
            EventPublisher(redis_client(self.redis_settings)),
            retention=timedelta(days=1),
        )

    def queue_jobs(self, count: int) -> None:
        """Put jobs on the normal lane."""
        broker = make_broker(self.redis_settings)
        for _ in range(count):
            job_id, message_id = str(uuid4()), str(uuid4())
            self.store.create(
                NewJob(
                    id=job_id,
                    kind=JobKind.AUDIO_ANALYSIS,
                    lane=Lane.NORMAL,
                    message="",
                    token_id="bench",  # noqa: S106 - a reference item's id
                    input={"s3_audio_url": f"s3://bench/{job_id}.wav"},
                )
            )
            queuing = Change(
                job_id=job_id, to=JobStatus.QUEUING, message="", queue_message_id=message_id
            )
            self.store.apply([queuing, Change(job_id=job_id, to=JobStatus.QUEUED, message="")])
            send(
                broker,
                new_message(
                    dispatch_actor(Lane.NORMAL),
                    Lane.NORMAL.queue_name,
                    DispatchJob(job_id=job_id),
                    message_id=message_id,
                ),
            )

    def sent(self) -> int:
        """Return how many jobs have gone to SQS."""
        with self.database.begin() as session:
            query = select(func.count()).where(Job.status == JobStatus.QUEUED_FOR_ANALYSIS)
            return session.scalar(query) or 0


def dispatcher_rate(bench: Bench, jobs: int) -> float:
    """Jobs per second through a dispatcher process, from its first to its last."""
    bench.queue_jobs(jobs)
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace_dispatcher"],
        env={"PATH": os.environ["PATH"], **bench.env, "PORT": "0", "LOG_LEVEL": "WARNING"},
    )
    try:
        first = wait_until(bench.sent, lambda count: count > 0, seconds=DEADLINE_SECONDS)
        started, cpu_before = time.perf_counter(), _cpu_seconds(process.pid)
        wait_until(bench.sent, lambda count: count == jobs, seconds=DEADLINE_SECONDS)
        cpu = _cpu_seconds(process.pid) - cpu_before
        print(f"dispatcher: {1000 * cpu / (jobs - first):.1f} ms of CPU a job")
        return (jobs - first) / (time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def dramatiq_rate(bench: Bench, jobs: int) -> float:
    """Messages per second that Dramatiq alone gives to an actor that does nothing."""
    broker = make_broker(bench.redis_settings)
    done: list[None] = []

    @dramatiq.actor(broker=broker, queue_name="bench")
    def nothing() -> None:
        done.append(None)

    for _ in range(jobs):
        nothing.send()
    worker = EmbeddedWorker(broker, queues={"bench"}, threads=THREADS)

    def work() -> None:
        worker.start()
        wait_until(lambda: len(done) == jobs, seconds=DEADLINE_SECONDS)

    rate = _rate(work, jobs)
    worker.stop(grace_seconds=10)
    return rate


def single_sends_rate(bench: Bench, jobs: int, url: str) -> float:
    """SendMessage calls per second from as many threads as the dispatcher has."""

    def one(_: int) -> None:
        bench.sqs.send_message(QueueUrl=url, MessageBody="x" * 500)

    def work() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, range(jobs)))

    return _rate(work, jobs)


def batch_sends_rate(bench: Bench, jobs: int, url: str) -> float:
    """Messages per second in full batches from one thread."""

    def work() -> None:
        for _ in range(jobs // SQS_MAX_BATCH_ENTRIES):
            bench.sqs.send_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(index), "MessageBody": "x" * 500}
                    for index in range(SQS_MAX_BATCH_ENTRIES)
                ],
            )

    return _rate(work, jobs)


def _rate(work: Callable[[], None], count: int) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def main() -> int:
    """Run, print a table, and return 1 where the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "stack"
        state = control.up_detached(
            directory, parts=[Part.AUDIO], services=False, parent=os.getpid()
        ).state
        try:
            bench = Bench(state.env)
            url = bench.sqs.create_queue(QueueName="bench")["QueueUrl"]
            rates = {
                "dispatcher, rows and SQS included": dispatcher_rate(bench, jobs),
                "Dramatiq, doing nothing": dramatiq_rate(bench, jobs),
                f"SendMessage, {THREADS} threads": single_sends_rate(bench, jobs, url),
                "SendMessageBatch, one thread": batch_sends_rate(bench, jobs, url),
            }
            bench.database.close()
        finally:
            control.down(directory)
    ours = next(iter(rates.values()))
    for name, rate in rates.items():
        print(f"{name:<36}{rate:8.0f} /s   {ours / rate:6.2f}")
    ratio = ours / rates["Dramatiq, doing nothing"]
    print(f"ratio to bare Dramatiq {ratio:.2f} (at least {MIN_RATIO})")
    return 0 if ratio >= MIN_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
