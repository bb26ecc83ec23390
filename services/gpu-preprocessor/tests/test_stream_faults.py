"""Processes that die, servers that die, networks that are cut: every entry ends exactly once."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from stream_harness import KINDS, PASSWORD, Bench, Effects, Gate, Proxy, RedisServer

from headrace_common.contracts.cctv import CctvState
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_gpu_preprocessor.stream.errors import LeaseLostError
from headrace_local.waiting import wait_until

HERE = Path(__file__).parent
#: Of processes that tests kill: long enough for a busy machine to renew in time.
VISIBILITY_SECONDS = 3


class Child:
    """A consumer process."""

    def __init__(self, bench: Bench, name: str, log: Path, **changes: str) -> None:
        env = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "PYTHONPATH": str(HERE),
            "REDIS_URL": bench.url,
            "REDIS_PASSWORD": PASSWORD,
            "REDIS_STREAM": bench.stream,
            "REDIS_VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS),
            "REDIS_BLOCK_MS": "300",
            "CONSUMER_NAME": name,
            **changes,
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "stream_child.py")],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


StartChild = Callable[..., Child]
StartServer = Callable[..., RedisServer]
OpenBench = Callable[..., Bench]


@pytest.fixture
def start_child(bench: Bench, tmp_path: Path) -> Iterator[StartChild]:
    children: list[Child] = []

    def start(name: str, **changes: str) -> Child:
        children.append(Child(bench, name, tmp_path / "child.log", **changes))
        return children[-1]

    yield start
    for child in children:
        child.kill()


@pytest.fixture(params=KINDS)
def start_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers that a test may kill."""
    servers: list[RedisServer] = []

    def start(*arguments: str) -> RedisServer:
        server = RedisServer(request.param, tmp_path / f"server-{len(servers)}")
        servers.append(server)
        return server.start(*arguments)

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def own_server(start_server: StartServer) -> RedisServer:
    """A server that a test may kill."""
    return start_server()


@pytest.fixture
def open_bench(own_server: RedisServer) -> Iterator[OpenBench]:
    """Opens streams on servers, and stops what consumes them."""
    benches: list[Bench] = []

    def open_one(server: RedisServer = own_server, url: str | None = None) -> Bench:
        benches.append(Bench(server, url=url))
        return benches[-1]

    yield open_one
    for bench in benches:
        bench.close()


@pytest.fixture
def proxy(own_server: RedisServer) -> Iterator[Proxy]:
    network = Proxy(own_server.port)
    yield network
    network.close()


def made(bench: Bench, kind: str) -> list[str]:
    rows: Any = bench.redis.lrange(f"{bench.stream}:{kind}", 0, -1)
    return [str(row) for row in rows]


def test_what_a_killed_process_held_is_taken_over(bench: Bench, start_child: StartChild) -> None:
    jobs = bench.add(2, cctvId="slow")
    child = start_child("victim", HANG="1")
    wait_until(lambda: made(bench, "begun"), lambda begun: len(begun) == 2)
    child.kill()
    began = time.monotonic()
    rows = bench.redis.xpending_range(bench.stream, "workers", "-", "+", 10)
    silent = max(row["time_since_delivered"] for row in rows) / 1_000
    effects = Effects()
    bench.consumer(effects, consumer_name="heir", redis_visibility_timeout=VISIBILITY_SECONDS)
    bench.wait_ended(jobs)
    assert time.monotonic() - began > VISIBILITY_SECONDS - silent - 0.01, "it may have been alive"
    assert sorted(effects.done) == sorted(jobs)
    assert made(bench, "done") == []
    assert {r.delivery for r in bench.reports(CctvState.COMPLETED)} == {2}


def test_a_process_that_is_asked_to_stop_finishes_first(
    bench: Bench, start_child: StartChild
) -> None:
    jobs = bench.add(3)
    child = start_child("one")
    bench.wait_ended(jobs)
    child.process.terminate()
    assert child.process.wait(timeout=60) == 0


def test_what_kills_its_process_ends_in_the_dead_letters(
    bench: Bench, start_child: StartChild
) -> None:
    [poison] = bench.add(cctvId="poison")
    for death in range(2):
        child = start_child("victim", REDIS_MAX_DELIVERIES="2", MAX_CONCURRENCY="1")
        child.process.wait(timeout=120)
        assert len(made(bench, "begun")) == death + 1
    good = bench.add(2)
    start_child("victim", REDIS_MAX_DELIVERIES="2", MAX_CONCURRENCY="1")
    bench.wait_ended(good)
    wait_until(lambda: bench.ended(CctvState.FAILED), lambda failed: failed == [poison])
    [letter] = bench.letters()
    assert (letter["code"], letter["deliveries"]) == ("worker_killed", "3")
    assert letter["jobId"] == poison
    assert made(bench, "begun").count(poison) == 2


def feed(bench: Bench, jobs: list[str], stop: threading.Event) -> threading.Thread:
    """Add entries all the time, as the producer does, whatever the server does."""

    def run() -> None:
        while not stop.wait(0.01):
            try:
                jobs.extend(bench.add())
            except (redis.RedisError, OSError):
                continue

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_server_that_is_killed_and_starts_again(
    own_server: RedisServer, open_bench: OpenBench
) -> None:
    bench = open_bench()
    effects = Effects(lambda _: time.sleep(0.03))
    jobs: list[str] = []
    stop = threading.Event()
    consumers = [
        bench.consumer(effects, consumer_name=name, max_concurrency=4, redis_visibility_timeout=30)
        for name in ("one", "two")
    ]
    feeding = feed(bench, jobs, stop)
    for round_ in range(2):
        wait_until(partial(effects.has_done, 40 * (round_ + 1)))
        own_server.kill()
        own_server.start()
    stop.set()
    feeding.join()
    # An entry whose XADD was carried out and not answered is done too.
    wait_until(lambda: set(jobs) - set(bench.ended()), lambda left: not left)
    wait_until(bench.pending, lambda count: count == 0)
    ended = bench.ended()
    assert len(ended) == len(set(ended)), "none ended twice"
    assert sorted(effects.done) == sorted(ended), "none was done twice"
    for consumer in consumers:
        consumer.check_working()


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_a_network_that_fails_in_the_middle(open_bench: OpenBench, proxy: Proxy, how: str) -> None:
    bench = open_bench(url=proxy.url)
    effects = Effects(lambda _: time.sleep(0.03))
    consumer = bench.consumer(effects, max_concurrency=4, redis_visibility_timeout=30)
    jobs = bench.add(60)
    for at in (10, 30):
        wait_until(partial(effects.has_done, at))
        getattr(proxy, how)()
        jobs += bench.add(5)
        wait_until(lambda: _all_stuck(effects))
        proxy.heal()
    bench.wait_ended(jobs)
    assert sorted(effects.done) == sorted(jobs), "none was done twice"
    consumer.check_working()


def _all_stuck(effects: Effects) -> bool:
    """Whether nothing was begun for a while."""
    before = len(effects.begun)
    time.sleep(0.3)
    return len(effects.begun) == before


def test_a_job_under_way_survives_a_cut_that_is_shorter_than_its_lease(
    open_bench: OpenBench, proxy: Proxy
) -> None:
    bench = open_bench(url=proxy.url)
    gate = Gate()
    effects = Effects(gate)
    bench.consumer(effects, redis_visibility_timeout=30)
    jobs = bench.add(2)
    wait_until(lambda: len(effects.begun) == 2)
    proxy.cut()
    gate.let_go()
    wait_until(lambda: len(effects.done) == 2)
    time.sleep(1.0)  # it tries to acknowledge meanwhile
    proxy.heal()
    bench.wait_ended(jobs)
    assert len(effects.begun) == 2


def test_a_job_whose_lease_cannot_be_renewed_stops_before_others_may_take_it(
    open_bench: OpenBench, proxy: Proxy
) -> None:
    far, near = open_bench(url=proxy.url), open_bench()
    near.stream = far.stream
    held: list[LeasedJob] = []
    stopped = threading.Event()

    def work(job: LeasedJob) -> None:
        held.append(job)
        try:
            Gate()(job)
        finally:
            stopped.set()

    def take_over(_job: LeasedJob) -> None:
        with pytest.raises(LeaseLostError):  # else two are at it at the same time
            held[0].check()

    one, two = Effects(work), Effects(take_over)
    far.consumer(one, redis_visibility_timeout=VISIBILITY_SECONDS)
    [job] = far.add()
    wait_until(lambda: held)
    proxy.silence()
    near.consumer(two, consumer_name="two", redis_visibility_timeout=VISIBILITY_SECONDS)
    near.wait_ended([job])
    assert stopped.wait(60)
    assert (one.done, two.done) == ([], [job])
    assert len(two.begun) == 1
    proxy.heal()


def test_a_server_without_memory_delays_the_end_and_loses_nothing(
    own_server: RedisServer, open_bench: OpenBench
) -> None:
    bench = open_bench()
    gate = Gate()
    effects = Effects(gate)
    bench.consumer(effects, redis_visibility_timeout=VISIBILITY_SECONDS)
    jobs = bench.add(2)
    wait_until(lambda: len(effects.begun) == 2)
    bench.redis.config_set("maxmemory", 1)
    gate.let_go()
    wait_until(lambda: len(effects.done) == 2)
    time.sleep(VISIBILITY_SECONDS + 1)  # longer than the leases: they are renewed all the same
    assert (bench.pending(), bench.ended()) == (2, [])
    bench.redis.config_set("maxmemory", 0)
    bench.wait_ended(jobs)
    assert sorted(effects.begun) == sorted(jobs)


def test_a_failover_to_a_replica(
    own_server: RedisServer, start_server: StartServer, open_bench: OpenBench, proxy: Proxy
) -> None:
    replica = start_server("--replicaof", "127.0.0.1", str(own_server.port))
    watch, bench = open_bench(replica), open_bench(url=proxy.url)
    with own_server.client() as primary:
        wait_until(lambda: primary.info("replication")["connected_slaves"] == 1)
        wait_until(lambda: watch.redis.info("replication")["master_link_status"] == "up")
        watch.stream = bench.stream
        effects = Effects(lambda _: time.sleep(0.03))
        bench.consumer(effects, max_concurrency=4, redis_visibility_timeout=20)
        jobs = bench.add(60)
        wait_until(lambda: len(effects.done) >= 20)
        # As a planned failover does it: stop writes, wait for the replica, turn the address.
        primary.execute_command("CLIENT", "PAUSE", "10000", "WRITE")
        offset = int(primary.info("replication")["master_repl_offset"])
        wait_until(lambda: int(watch.redis.info("replication")["slave_repl_offset"]) >= offset)
        watch.redis.replicaof("NO", "ONE")
        primary.execute_command("REPLICAOF", "127.0.0.1", str(replica.port))
        primary.execute_command("CLIENT", "UNPAUSE")
        # Old connections still lead to the former primary, which refuses writes by now.
        proxy.target = replica.port
    watch.wait_ended(jobs)
    assert sorted(effects.done) == sorted(jobs), "none was done twice"
